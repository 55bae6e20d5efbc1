#pragma once

#include <string>
#include <utility>
#include <vector>

#include "node/sandbox/clock.h"
#include "wire/messages.h"

namespace thaw::node {

/// Names consecutive stretches of time. `received`: what phases count from.
class PhaseClock {
 public:
  explicit PhaseClock(base::TimePoint received = now()) : received_(received), begun_(now()) {}
  void finish(const char* name) {
    const base::TimePoint at = now();
    phases_.push_back({name, begun_ - received_, at - begun_});
    begun_ = at;
  }
  [[nodiscard]] std::vector<wire::Phase> take() { return std::move(phases_); }

 private:
  base::TimePoint received_;
  base::TimePoint begun_;
  std::vector<wire::Phase> phases_;
};

}  // namespace thaw::node
