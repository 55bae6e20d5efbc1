#pragma once

#include <chrono>

#include "base/time.h"

namespace thaw::node {

/// The node's real time; the only place of the sandbox code that reads a clock.
inline base::TimePoint now() {
  return base::TimePoint(duration_cast<base::Duration>(std::chrono::steady_clock::now().time_since_epoch()));
}

/// Whole milliseconds until `when` for poll(), rounded up so that a wait never spins; 0 when it has passed, `cap_ms` at most.
inline int poll_ms(base::TimePoint when, int cap_ms) {
  const auto left = when - now();
  if (left <= base::Duration::zero()) return 0;
  const auto left_ms = std::chrono::ceil<base::Millis>(left).count();
  return left_ms < cap_ms ? static_cast<int>(left_ms) : cap_ms;
}

}  // namespace thaw::node
