#pragma once

#include <cstdint>
#include <vector>

#include "sim/fleet.h"
#include "sim/trace.h"

namespace thaw::sim {

/// What cannot be undercut: the device time that every policy must hold which begins each request as it arrives.
///
/// With perfect foresight, as many devices as it wants, no queue for disk or bus, every model's weights in host memory,
/// and requests that are never slowed down by others on their device or in their batch. A replica serves as many at
/// once as its model's concurrency, so a second one is needed while more run, and so on. Each of these, between two
/// times at which it is needed, holds its memory the whole time, or it goes down and up again by the way that holds it
/// for less (standby, or a stop and a restore), whichever is less: for each gap the cheaper of two, as in ski rental
/// with the future known. No schedule does with less: the n-th replica of a model is held at least whenever n or more
/// are needed.
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
