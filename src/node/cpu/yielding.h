#pragma once

#include "base/time.h"

/// The problem: an engine that takes all that its CPU limit allows, and would take more, is as often in the way of a
/// neighbour's short answer as a quiet one: within its limit it has the same right to the processor, and whoever wakes
/// meanwhile waits for a time slice, of several threads perhaps. Nobody notices whether such an engine is a few
/// milliseconds later, since the kernel holds it up for most of each period anyway.
///
/// So an engine that runs into its limit gives way: its group has the kernel's idle class (cpu.idle) among its
/// siblings, which anybody who wakes goes before. What nobody else wants is still its own, up to the limit.
namespace thaw::node {

/// What is seen of an engine since the last look.
struct CpuSeen {
  base::TimePoint at;
  base::Duration since_last{};  ///< > 0
  base::Duration held_up{};     ///< its threads waited for the next period, of each processor summed up
  bool processors_wanted =
      false;  ///< all engines together left less than a quarter of the processors: one that gives way may get nothing
};

/// Whether one engine gives way. Pure.
class Yielding {
 public:
  /// True: from now on it gives way. It begins with who was held up for a quarter of the time, and ends some seconds
  /// after the last time, or at once when it no longer runs into its limit because others take all there is: no one is
  /// starved below what others have.
  bool look(const CpuSeen& seen);
  [[nodiscard]] bool yields() const { return yields_; }
  [[nodiscard]] base::TimePoint until() const { return until_; }  ///< when it ends unless it happens again

 private:
  bool yields_ = false;
  base::TimePoint until_{};
};

}  // namespace thaw::node
