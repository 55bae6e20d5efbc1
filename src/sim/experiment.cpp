#include "sim/experiment.h"

#include <cassert>

#include "sim/policy.h"
#include "sim/world.h"

namespace thaw::sim {

Outcome simulate(const Fleet& fleet, const Trace& trace, const std::string& policy) {
  const auto decides = make_policy(policy);
  assert(decides != nullptr);
  World world(fleet, trace, *decides);
  Outcome outcome = world.run();
  outcome.policy = policy;
  return outcome;
}

std::uint32_t smallest_fleet(const Fleet& fleet, const Trace& trace, const std::string& policy,
                             std::uint32_t max_devices) {
  const auto enough = [&](std::uint32_t devices) {
    return simulate(resized(fleet, devices), trace, policy).within_5s >= kAttainment;
  };
  std::uint32_t high = 1;
  while (!enough(high)) {
    if (high >= max_devices) return 0;
    high = std::min(high * 2, max_devices);
  }
  std::uint32_t low = high / 2;  // not enough, or 0
  while (high - low > 1) {
    const std::uint32_t middle = low + (high - low) / 2;
    (enough(middle) ? high : low) = middle;
  }
  return high;
}

Experiment run_experiment(const Fleet& fleet, const Trace& trace, const ExperimentOptions& options,
                          const std::function<void(const std::string&)>& progress) {
  Experiment experiment;
  experiment.trace = trace.name;
  experiment.fleet = fleet.name;
  experiment.requests = trace.requests.size();
  experiment.models = trace.models.size();
  experiment.skipped = trace.skipped;
  experiment.span = trace.span();
  experiment.durations = trace.durations;
  experiment.devices = fleet.device_count();
  experiment.device_hour_price = fleet.device_hour_price;
  experiment.looked_for_smallest = options.smallest_fleet;
  experiment.bound = lower_bound(fleet, trace);
  for (const std::string& policy : options.policies) {
    progress(policy);
    PolicyResult result;
    result.outcome = simulate(fleet, trace, policy);
    if (options.smallest_fleet) {
      progress(policy + ": smallest fleet");
      result.smallest_devices = smallest_fleet(fleet, trace, policy, options.max_devices);
      if (result.smallest_devices > 0) {
        const Outcome there = simulate(resized(fleet, result.smallest_devices), trace, policy);
        result.smallest_device_hours = there.device_hours();
        result.smallest_used_device_hours = there.used_device_hours();
      }
    }
    experiment.results.push_back(std::move(result));
  }
  return experiment;
}

}  // namespace thaw::sim
