#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/time.h"

namespace thaw::control {

struct Model;

/// When something must be looked at again. Lives inside its owner and must be disarmed before it dies.
struct Timer {
  std::uint64_t owner = 0;                 ///< orders timers that are due at the same time; unique
  Model* model = nullptr;                  ///< whose timer it is; null: the scheduler's own
  base::TimePoint at = base::never();      ///< never(): not armed
  std::size_t slot = 0;                    ///< its place in the heap while armed
};

/// The armed timers, soonest first. A heap in which every timer knows its place: moving one is O(log n) and leaves no
/// dead entries behind, so memory is bounded by the number of timers and next() is exact.
class Timers {
 public:
  void arm(Timer& timer, base::TimePoint at);  ///< moves it if it is armed; never() disarms
  void disarm(Timer& timer) { arm(timer, base::never()); }
  /// Cheap on a hot path: moves it forward only; a later time is left to whoever handles the earlier one.
  void arm_at_latest(Timer& timer, base::TimePoint at) {
    if (at < timer.at) arm(timer, at);
  }

  [[nodiscard]] base::TimePoint next() const { return heap_.empty() ? base::never() : heap_.front()->at; }
  /// Disarms and returns a timer due at or before `now`; null if there is none.
  Timer* pop_due(base::TimePoint now);

 private:
  static bool before(const Timer& a, const Timer& b) { return a.at != b.at ? a.at < b.at : a.owner < b.owner; }
  void put(std::size_t slot, Timer* timer);
  void sift(std::size_t slot);

  std::vector<Timer*> heap_;
};

}  // namespace thaw::control
