#include <boost/json.hpp>

#include "sim/policy.h"
#include "sim/report.h"

namespace thaw::sim {

namespace {

namespace json = boost::json;

constexpr double kGiB = 1024.0 * 1024 * 1024;

json::array groups_json(const std::vector<GroupOutcome>& groups, const char* key) {
  json::array all;
  for (const GroupOutcome& g : groups) {
    const Delays& d = g.delays;
    json::object object{{key, g.name},         {"requests", d.requests}, {"answered", d.answered}, {"p50_s", d.p50_s}, {"p90_s", d.p90_s},
                        {"p99_s", d.p99_s}, {"max_s", d.max_s},       {"within_5s", d.within_5s}};
    if (g.held_device_s > 0) object["device_hours"] = g.held_device_s / 3600;
    all.push_back(std::move(object));
  }
  return all;
}

json::object result_json(const PolicyResult& result, const Experiment& experiment) {
  const Outcome& o = result.outcome;
  json::object object{
      {"policy", o.policy},
      {"devices", o.devices},
      {"answered", o.answered},
      {"refused", o.refused},
      {"cold", o.cold},
      {"p50_s", o.p50_s},
      {"p90_s", o.p90_s},
      {"p99_s", o.p99_s},
      {"max_s", o.max_s},
      {"within_5s", o.within_5s},
      {"device_hours", o.device_hours()},
      {"used_device_hours", o.used_device_hours()},
      {"busy_device_hours", o.busy_device_s / 3600},
      {"rising_device_hours", o.held_by.rising / 3600},
      {"answering_device_hours", o.held_by.answering / 3600},
      {"idle_device_hours", o.held_by.idle / 3600},
      {"falling_device_hours", o.held_by.falling / 3600},
      {"peak_devices", o.peak_devices},
      {"standby_gib_hours", o.standby_gib_s / 3600},
      {"memory_gib_mean", o.span > base::Duration::zero() ? o.memory_byte_s / kGiB / base::to_s(o.span) : 0},
      {"memory_gib_peak", static_cast<double>(o.memory_peak_bytes) / kGiB},
      {"cost_per_1000_requests", o.cost_per_1000(experiment.device_hour_price)},
      {"starts", o.starts},
      {"restores", o.restores},
      {"wakes", o.wakes},
      {"freezes", o.freezes},
      {"stops", o.stops},
      {"images", o.images},
      {"events", o.events},
      {"span_s", base::to_s(o.span)},
      {"violations", o.violated},
  };
  if (experiment.bound.held_device_s > 0) object["vs_lower_bound"] = o.held_device_s / experiment.bound.held_device_s;
  if (experiment.looked_for_smallest) {
    object["smallest_devices"] =
        result.smallest_devices > 0 ? json::value(result.smallest_devices) : json::value(nullptr);
    object["smallest_device_hours"] = result.smallest_device_hours;
    object["smallest_used_device_hours"] = result.smallest_used_device_hours;
  }
  if (!o.tenants.empty()) object["tenants"] = groups_json(o.tenants, "tenant");
  if (!o.priorities.empty()) object["priorities"] = groups_json(o.priorities, "priority");
  json::array violations;
  for (const std::string& violation : o.violations) violations.emplace_back(violation);
  object["violation_examples"] = std::move(violations);
  return object;
}

}  // namespace

std::string to_json(const Experiment& experiment) {
  json::array results;
  for (const PolicyResult& result : experiment.results) results.push_back(result_json(result, experiment));
  const json::object object{
      {"trace", experiment.trace},
      {"fleet", experiment.fleet},
      {"requests", experiment.requests},
      {"models", experiment.models},
      {"skipped_rows", experiment.skipped},
      {"span_s", base::to_s(experiment.span)},
      {"judged_by", experiment.durations ? "start_delay" : "ttft"},
      {"devices", experiment.devices},
      {"lower_bound_device_hours", experiment.bound.device_hours()},
      {"lower_bound_answering_device_hours", experiment.bound.serving_device_s / 3600},
      {"results", std::move(results)},
  };
  return json::serialize(object);
}

}  // namespace thaw::sim
