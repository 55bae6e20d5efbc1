#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "sim/bound.h"
#include "sim/fleet.h"
#include "sim/outcome.h"
#include "sim/trace.h"

namespace thaw::sim {

/// The share of requests that must begin within kDelayGoal_s for a fleet to be large enough.
constexpr double kAttainment = 0.99;

struct ExperimentOptions {
  std::vector<std::string> policies;
  bool smallest_fleet = false;      ///< also look for it: a dozen more runs for each policy
  std::uint32_t max_devices = 512;  ///< where that search ends
};

struct PolicyResult {
  Outcome outcome;                     ///< on the fleet given
  std::uint32_t smallest_devices = 0;  ///< with which kAttainment is met; 0: not looked for, or not with max_devices
  double smallest_device_hours = 0;    ///< held there
  double smallest_used_device_hours = 0;
};

struct Experiment {
  std::string trace, fleet;
  std::uint64_t requests = 0, models = 0, skipped = 0;
  base::Duration span{};
  bool durations = false;
  std::uint32_t devices = 0;
  double device_hour_price = 0;
  bool looked_for_smallest = false;
  LowerBound bound;
  std::vector<PolicyResult> results;  ///< in the order asked for
};

/// Runs every policy on the trace and the fleet. The policies' names must be known. `progress` hears what begins.
Experiment run_experiment(const Fleet& fleet, const Trace& trace, const ExperimentOptions& options,
                          const std::function<void(const std::string&)>& progress);

Outcome simulate(const Fleet& fleet, const Trace& trace, const std::string& policy);

/// The fewest devices of the fleet's first kind with which `policy` meets kAttainment; 0: not with `max_devices`.
/// Doubles, then halves: as if more devices never made it worse.
std::uint32_t smallest_fleet(const Fleet& fleet, const Trace& trace, const std::string& policy,
                             std::uint32_t max_devices);

}  // namespace thaw::sim
