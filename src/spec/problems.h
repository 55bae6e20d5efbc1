#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace thaw::spec {

/// Where something stands in a text; both count from 1.
struct Place {
  int line = 1;
  int column = 1;
};

/// Text that a stranger wrote, made fit for a message: cut to 64 bytes, control characters as "\xNN".
std::string printable(std::string_view text);

/// Collects what is wrong with a text, so that somebody who made three mistakes reads of three, not of one at a time.
class Problems {
 public:
  static constexpr std::size_t kMaxShown = 20;

  /// `path` is the way to the value, "spec.scaling.maxReplicas"; empty for the text as a whole.
  void add(Place place, std::string_view path, std::string_view message);
  [[nodiscard]] bool empty() const { return total_ == 0; }

  /// One problem a line, "FILE:LINE:COLUMN: PATH: MESSAGE"; an empty `file` leaves "FILE:LINE:COLUMN: " out.
  [[nodiscard]] base::Error to_error(const std::string& file) const;

 private:
  struct Problem {
    Place place;
    std::string text;
  };
  std::vector<Problem> shown_;
  std::size_t total_ = 0;
};

}  // namespace thaw::spec
