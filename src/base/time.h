#pragma once

#include <chrono>
#include <cstdint>

namespace thaw::base {

/// Time as decisions see it. Whoever decides is handed a TimePoint and never reads a clock, so that a test or the
/// simulator owns time; hence this clock has no now(). Real time comes from net::Loop or node's steady clock.
struct MonotonicClock {
  using duration = std::chrono::nanoseconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<MonotonicClock, duration>;
  static constexpr bool is_steady = true;
};

using Duration = MonotonicClock::duration;
using TimePoint = MonotonicClock::time_point;  ///< nanoseconds since an arbitrary origin, never going back

using std::chrono::duration_cast;
using Millis = std::chrono::milliseconds;
using Seconds = std::chrono::seconds;

constexpr TimePoint never() { return TimePoint::max(); }

/// Milliseconds with a fraction, for people and metrics.
inline double to_ms(Duration d) { return std::chrono::duration<double, std::milli>(d).count(); }
inline double to_s(Duration d) { return std::chrono::duration<double>(d).count(); }

}  // namespace thaw::base
