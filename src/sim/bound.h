#pragma once

#include <cstdint>
#include <vector>

#include "sim/fleet.h"
#include "sim/trace.h"

namespace thaw::sim {

/// What cannot be undercut: the device time that every policy must hold which begins each request as it arrives.
///
/// With perfect foresight, as many devices as it wants, no queue for disk or bus, every model in standby when it is not
/// up (the fastest way), and one replica a model however many requests run. For each model, between two of its requests
/// it holds its memory the whole time, or it goes down after the first and up before the second, whichever is less: for
/// each gap the cheaper of two, as in ski rental with the future known.
struct LowerBound {
  double held_device_s = 0;     ///< share of a device's memory held, times time; on the fleet's first kind of device
  double serving_device_s = 0;  ///< of it while a request runs
  [[nodiscard]] double device_hours() const { return held_device_s / 3600; }
};
LowerBound lower_bound(const Fleet& fleet, const Trace& trace);

/// A request's time on a device that it has for itself, its model's only one.
double service_s(const Fleet& fleet, const Trace& trace, const TraceRequest& request);

/// Of each model, the most requests at one time if each began as it arrived.
std::vector<std::uint32_t> peak_concurrency(const Fleet& fleet, const Trace& trace);

}  // namespace thaw::sim
