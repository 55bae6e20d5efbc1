#pragma once

#include <algorithm>
#include <cstdint>

#include "base/time.h"

namespace thaw::gateway {

/// How long a peer may take for a body: at most kSilence between two bytes, and in all no less than the rate, which it owes from kSilence after the
/// beginning on. A peer that sends (or takes) a byte a minute holds a place and memory for hours otherwise.
class Patience {
 public:
  static constexpr base::Duration kSilence = base::Seconds(60);

  /// `rate`: bytes a second; 0: any.
  Patience(base::TimePoint begun, std::uint64_t rate) : begun_(begun), rate_(rate) {}

  /// Until when the next byte must have come, `bytes` of them being there.
  [[nodiscard]] base::TimePoint deadline(base::TimePoint now, std::uint64_t bytes) const {
    if (rate_ == 0) return now + kSilence;
    const auto owed = base::Duration(static_cast<base::Duration::rep>(static_cast<double>(bytes) / static_cast<double>(rate_) * 1e9));
    return std::min(now + kSilence, begun_ + kSilence + owed);
  }

 private:
  base::TimePoint begun_;
  std::uint64_t rate_;
};

}  // namespace thaw::gateway
