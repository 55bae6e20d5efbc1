#include "sim/bound.h"

#include <algorithm>
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

LowerBound lower_bound(const Fleet& fleet, const Trace& trace) {
  struct Span {
    double begin_s = -1, end_s = -1;  ///< of requests that overlap
  };
  std::vector<Span> last(trace.models.size());
  const NodeShape& shape = fleet.nodes.front();
  LowerBound bound;
  const auto kind_of = [&](ModelIndex model) -> const ModelClass& {
    return fleet.class_of(model, trace.models[model]);
  };
  const auto share_of = [&](ModelIndex model) {
    return static_cast<double>(kind_of(model).device_bytes()) / static_cast<double>(shape.device_bytes);
  };
  const auto up_and_down_s = [&](ModelIndex model) {
    const ModelClass& kind = kind_of(model);
    const double move_s = shape.bus_bytes_per_s == 0
                              ? 0
                              : static_cast<double>(kind.kept_bytes()) / static_cast<double>(shape.bus_bytes_per_s);
    return base::to_s(fixed_cost(fleet, kind, wire::Way::wake)) + base::to_s(freeze_cost(fleet, kind)) + 2 * move_s;
  };
  for (const TraceRequest& request : trace.requests) {
    Span& span = last[request.model];
    const double at_s = base::to_s(request.at), end_s = at_s + service_s(fleet, trace, request);
    const double share = share_of(request.model);
    if (span.begin_s < 0) {
      bound.held_device_s += share * up_and_down_s(request.model);  // up before the first, down after the last
      span = {at_s, at_s};
    }
    const double gap_s = std::max(at_s - span.end_s, 0.0);
    const double serving_s = end_s - std::max(at_s, span.end_s);
    bound.held_device_s += share * (std::min(gap_s, up_and_down_s(request.model)) + std::max(serving_s, 0.0));
    bound.serving_device_s += share * std::max(serving_s, 0.0);
    span.end_s = std::max(span.end_s, end_s);
  }
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
