#include "sim/bound.h"

#include <algorithm>
#include <limits>
#include <set>
#include <vector>

#include "sim/costs.h"

namespace thaw::sim {

double service_s(const Fleet& fleet, const Trace& trace, const TraceRequest& request) {
  if (trace.durations) return base::to_s(request.duration);
  const NodeShape& shape = fleet.nodes.front();
  const ModelClass& kind = fleet.class_of(request.model, trace.models[request.model]);
  const double each_s = step_s(fleet, shape, kind) + base::to_s(kind.per_sequence);
  return prompt_s(fleet, shape, kind, request.input_tokens) +
         each_s * (request.output_tokens > 1 ? request.output_tokens - 1 : 0);
}

namespace {

/// The n-th replica of a model: needed while more requests run than n - 1 others serve.
struct Level {
  double needed_from_s = -1, free_from_s = -1;  ///< -1: it is not needed; it never was

  void needed(double at_s, double down_and_up_s, double share, LowerBound& bound) {
    bound.held_device_s += share * (free_from_s < 0 ? down_and_up_s : std::min(at_s - free_from_s, down_and_up_s));
    needed_from_s = at_s;
  }
  void free(double at_s, double share, LowerBound& bound) {
    bound.held_device_s += share * (at_s - needed_from_s);
    bound.serving_device_s += share * (at_s - needed_from_s);
    free_from_s = at_s;
  }
};

/// One model's replicas, as its requests begin and end.
struct Levels {
  std::vector<Level> levels;
  std::multiset<double> ends_s;  ///< of what runs

  void end_until(double at_s, std::size_t slots, double share, LowerBound& bound) {
    while (!ends_s.empty() && *ends_s.begin() <= at_s) {
      const double end_s = *ends_s.begin();
      ends_s.erase(ends_s.begin());
      if (ends_s.size() % slots == 0) levels[ends_s.size() / slots].free(end_s, share, bound);
    }
  }
  void begin(double at_s, double end_s, std::size_t slots, double down_and_up_s, double share, LowerBound& bound) {
    if (ends_s.size() % slots == 0) {
      const std::size_t level = ends_s.size() / slots;
      if (level == levels.size()) levels.emplace_back();
      levels[level].needed(at_s, down_and_up_s, share, bound);
    }
    ends_s.insert(end_s);
  }
};

/// Down and up again by the way that holds the device for less.
double down_and_up_s(const Fleet& fleet, const ModelClass& kind) {
  const NodeShape& shape = fleet.nodes.front();
  const auto bus_s = [&](std::uint64_t bytes) {
    return shape.bus_bytes_per_s == 0 ? 0 : static_cast<double>(bytes) / kind.devices / static_cast<double>(shape.bus_bytes_per_s);
  };
  const auto fixed_s = [&](wire::Way way) { return base::to_s(fixed_cost(fleet, kind, way)); };
  const double stop_s = base::to_s(stop_cost(fleet, kind));
  const double standby_s = base::to_s(freeze_cost(fleet, kind)) + fixed_s(wire::Way::wake) + 2 * bus_s(kind.kept_bytes());
  const double read_s = static_cast<double>(kind.state_bytes) / static_cast<double>(shape.disk_bytes_per_s);
  const double restored_s = stop_s + fixed_s(wire::Way::restore) + std::max(bus_s(kind.kept_bytes()), read_s);
  const double started_s = stop_s + fixed_s(wire::Way::start) + bus_s(kind.weights_bytes);
  return std::min({standby_s, restored_s, started_s});
}

}  // namespace

LowerBound lower_bound(const Fleet& fleet, const Trace& trace) {
  const double device_bytes = static_cast<double>(fleet.nodes.front().device_bytes);
  std::vector<Levels> models(trace.models.size());
  LowerBound bound;
  const auto kind_of = [&](ModelIndex model) -> const ModelClass& {
    return fleet.class_of(model, trace.models[model]);
  };
  const auto share_of = [&](ModelIndex model) {
    return static_cast<double>(kind_of(model).device_bytes()) / device_bytes;
  };
  for (const TraceRequest& request : trace.requests) {
    Levels& model = models[request.model];
    const double at_s = base::to_s(request.at), share = share_of(request.model);
    const std::size_t slots = kind_of(request.model).concurrency;
    model.end_until(at_s, slots, share, bound);
    model.begin(at_s, at_s + service_s(fleet, trace, request), slots, down_and_up_s(fleet, kind_of(request.model)), share,
                bound);
  }
  for (ModelIndex m = 0; m < models.size(); ++m)
    models[m].end_until(std::numeric_limits<double>::infinity(), kind_of(m).concurrency, share_of(m), bound);
  return bound;
}

std::vector<std::uint32_t> peak_concurrency(const Fleet& fleet, const Trace& trace) {
  std::vector<std::multiset<double>> ends(trace.models.size());
  std::vector<std::uint32_t> peaks(trace.models.size(), 0);
  for (const TraceRequest& request : trace.requests) {
    const double at_s = base::to_s(request.at);
    std::multiset<double>& running = ends[request.model];
    running.erase(running.begin(), running.upper_bound(at_s));
    running.insert(at_s + service_s(fleet, trace, request));
    peaks[request.model] = std::max(peaks[request.model], static_cast<std::uint32_t>(running.size()));
  }
  return peaks;
}

}  // namespace thaw::sim
