#include "sim/costs.h"

namespace thaw::sim {

base::Duration fixed_cost(const Fleet& fleet, const ModelClass& kind, wire::Way way) {
  switch (way) {
    case wire::Way::wake:
      return kind.measured.wake.value_or(fleet.costs.wake);
    case wire::Way::restore:
      return kind.measured.restore.value_or(fleet.costs.restore);
    case wire::Way::start:
      break;
  }
  return kind.measured.start.value_or(fleet.costs.start);
}

base::Duration freeze_cost(const Fleet& fleet, const ModelClass& kind) {
  return kind.measured.freeze.value_or(fleet.costs.freeze);
}

base::Duration stop_cost(const Fleet& fleet, const ModelClass& kind) {
  return kind.measured.stop.value_or(fleet.costs.stop);
}

double prompt_s(const Fleet& fleet, const NodeShape& shape, const ModelClass& kind, std::uint32_t tokens) {
  if (kind.measured.prompt_token)
    return base::to_s(kind.measured.prompt) + base::to_s(*kind.measured.prompt_token) * tokens;
  // Two operations for each weight and token; weights have 16 bits.
  const double operations = static_cast<double>(kind.weights_bytes) / kind.devices * tokens;
  return base::to_s(kind.measured.prompt) + operations / (shape.device_tflops * 1e12 * fleet.prompt_efficiency);
}

double step_s(const Fleet& fleet, const NodeShape& shape, const ModelClass& kind) {
  if (kind.measured.step) return base::to_s(*kind.measured.step);
  return base::to_s(fleet.costs.iteration) +
         static_cast<double>(kind.weights_bytes) / kind.devices /
             (static_cast<double>(shape.memory_bytes_per_s) * fleet.decode_efficiency);
}

base::Duration first_answer_cost(const ModelClass& kind, wire::Way way, double missing_share, double late_share) {
  const Measured& m = kind.measured;
  const bool wakes = way == wire::Way::wake;
  const base::Duration none = m.first_answer;
  const base::Duration late = wakes ? m.first_after_wake : m.first_from_disk.value_or(none);
  const base::Duration soon = (wakes ? m.soon_after_wake : m.soon_from_disk).value_or(late);
  const auto part = [](base::Duration whole, double share) {
    return base::Duration(static_cast<std::int64_t>(static_cast<double>(whole.count()) * share));
  };
  return none + part(soon - none, missing_share) + part(late - soon, late_share);
}

}  // namespace thaw::sim
