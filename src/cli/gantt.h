#pragma once

#include <string>
#include <vector>

namespace thaw::cli {

/// A named part of a request's life, from the request's arrival.
struct TimelinePhase {
  std::string name;
  double start_ms = 0;
  double duration_ms = 0;
};

inline constexpr std::size_t kChartWidth = 80;      ///< columns, so that it fits the narrowest usual terminal
inline constexpr std::size_t kMaxChartPhases = 64;  ///< the rest is counted, not drawn

/// The phases as lines of name, start, duration and a bar on one time axis, which ends where the last phase ends:
///
///     phase      start     took
///     sandbox   0.2 ms    28 ms  ########
///     load       20 ms    90 ms        ##########################
///
/// Sorted by start. Every phase has a bar of at least one column. `utf8`: blocks instead of '#'. No phases: an empty
/// text.
std::string render_gantt(std::vector<TimelinePhase> phases, bool utf8);

}  // namespace thaw::cli
