#pragma once

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "sim/fleet.h"
#include "sim/outcome.h"
#include "sim/trace.h"

/// Fleets and traces small enough to compute by hand.
namespace thaw::sim {

/// One machine and one kind of model (80 bytes of weights, 20 beside them, two requests at a time), round costs, no
/// request time: a restore takes 1 s
/// + 4 s (disk) at first and 1 s + 1 s (bus) from the page cache, a wake 1 s + 1 s, a start 10 s more than a restore's
/// fixed second.
inline Fleet round_fleet(std::uint32_t devices, std::uint64_t device_bytes, const std::string& model) {
  using base::Seconds;
  Fleet fleet;
  NodeShape node;
  node.devices = devices;
  node.device_bytes = device_bytes;
  node.bus_bytes_per_s = 80;
  node.memory_bytes_per_s = 800;
  node.device_tflops = 1;
  node.host_bytes = 10'000;
  node.standby_bytes = 5'000;
  node.disk_bytes_per_s = 20;
  node.image_bytes = 10'000;
  fleet.nodes = {node};
  ModelClass kind;
  kind.name = model;
  kind.weights_bytes = 80;
  kind.working_bytes = 20;
  kind.concurrency = 2;
  fleet.models = {kind};
  fleet.costs = {Seconds(11), Seconds(1), Seconds(1), Seconds(1), Seconds(1), {}, {}};
  return fleet;
}

/// Requests of a second each: (at, model).
inline Trace trace_of(const std::vector<std::pair<int, ModelIndex>>& requests) {
  Trace trace;
  trace.name = "by hand";
  trace.durations = true;
  for (const auto& [at, model] : requests) {
    while (trace.models.size() <= model) trace.models.push_back("m" + std::to_string(trace.models.size()));
    trace.requests.push_back({base::Seconds(at), model, 0, 0, base::Seconds(1)});
  }
  return trace;
}

/// In seconds, rounded to a millisecond.
inline std::vector<double> delays(const Outcome& outcome) {
  std::vector<double> all(outcome.delay_s.begin(), outcome.delay_s.end());
  for (double& delay : all) delay = std::round(delay * 1000) / 1000;
  return all;
}

}  // namespace thaw::sim
