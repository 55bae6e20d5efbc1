#include "sim/calibration.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "sim/costs.h"

namespace thaw::sim {

namespace {

constexpr double kLeastShare = 0.5, kMostShare = 0.95;
constexpr double kLeastRate = 0.3;
constexpr double kFarApart = 3;  // prompts of about the same length say nothing of a slope

base::Duration of_s(double s) {
  return base::Duration(static_cast<std::int64_t>(std::llround(std::max(s, 0.0) * 1e9)));
}

template <typename Value>
double median_of(const std::vector<Probe>& probes, const Value& value) {
  std::vector<double> values;
  values.reserve(probes.size());
  for (const Probe& probe : probes) values.push_back(value(probe));
  return median(std::move(values));
}

/// Of an answer's tokens after the first.
double token_s(const Probe& probe) {
  return probe.output_tokens > 1 ? probe.answer_s / (probe.output_tokens - 1) : 0;
}

/// Whole microseconds, as a spec has durations.
std::string duration_text(base::Duration duration) {
  return fmt::format(
      "{}us", std::chrono::duration_cast<std::chrono::microseconds>(duration + std::chrono::nanoseconds(500)).count());
}

std::string bytes_text(std::uint64_t bytes) {
  return fmt::format("{}", bytes);
}

void add(std::string& text, const char* key, const std::string& value) {
  text += fmt::format(", {}: {}", key, value);
}

std::string node_yaml(const NodeShape& node) {
  std::string text = fmt::format("  - {{count: {}, devices: {}", node.count, node.devices);
  if (node.device_kind == spec::DeviceKind::cpu) add(text, "deviceKind", "cpu");
  add(text, "deviceMemory", bytes_text(node.device_bytes));
  if (node.bus_bytes_per_s > 0) add(text, "busPerSecond", bytes_text(node.bus_bytes_per_s));
  if (node.memory_bytes_per_s > 0) add(text, "deviceMemoryPerSecond", bytes_text(node.memory_bytes_per_s));
  if (node.device_tflops > 0) add(text, "deviceTflops", fmt::format("{}", node.device_tflops));
  add(text, "hostMemory", bytes_text(node.host_bytes));
  if (node.standby_bytes > 0) add(text, "standbyMemory", bytes_text(node.standby_bytes));
  add(text, "diskPerSecond", bytes_text(node.disk_bytes_per_s));
  if (node.image_bytes > 0) add(text, "imageDisk", bytes_text(node.image_bytes));
  if (node.memory_return_bytes > 0) add(text, "memoryReturn", bytes_text(node.memory_return_bytes));
  return text + "}\n";
}

std::string measured_yaml(const Measured& measured) {
  std::string text;
  const auto put = [&](const char* key, const std::optional<base::Duration>& value) {
    if (value) add(text, key, duration_text(*value));
  };
  const auto put_some = [&](const char* key, base::Duration value) {
    if (value > base::Duration::zero()) add(text, key, duration_text(value));
  };
  put("start", measured.start);
  put("restore", measured.restore);
  put("wake", measured.wake);
  put("freeze", measured.freeze);
  put("stop", measured.stop);
  put_some("firstAnswer", measured.first_answer);
  put("firstFromDisk", measured.first_from_disk);
  put_some("firstAfterWake", measured.first_after_wake);
  put("soonFromDisk", measured.soon_from_disk);
  put("soonAfterWake", measured.soon_after_wake);
  put_some("prompt", measured.prompt);
  put("promptToken", measured.prompt_token);
  put("step", measured.step);
  return text.empty() ? "" : fmt::format("    measured: {{{}}}\n", text.substr(2));
}

std::string model_yaml(const ModelClass& model) {
  std::string text = fmt::format("  - name: {}\n    share: {}\n    weights: {}\n    working: {}\n", model.name,
                                 model.share, bytes_text(model.weights_bytes), bytes_text(model.working_bytes));
  if (model.state_bytes > 0) text += fmt::format("    state: {}\n", bytes_text(model.state_bytes));
  if (model.resident_bytes) text += fmt::format("    resident: {}\n", bytes_text(*model.resident_bytes));
  if (model.bytes_per_token > 0) text += fmt::format("    perToken: {}\n", bytes_text(model.bytes_per_token));
  text += fmt::format("    concurrency: {}\n    maxReplicas: {}\n    idleTimeout: {}ms\n", model.concurrency,
                      model.max_replicas, std::chrono::duration_cast<base::Millis>(model.idle_timeout).count());
  if (model.standby != spec::Mode::automatic) text += fmt::format("    standby: {}\n", spec::to_string(model.standby));
  if (model.per_sequence > base::Duration::zero())
    text += fmt::format("    perSequence: {}\n", duration_text(model.per_sequence));
  return text + measured_yaml(model.measured);
}

double bytes_of(const Holding& holding) {
  return static_cast<double>(holding.bytes);
}

/// What replicas held before any request, given what each token added: the median.
std::uint64_t before_any(const std::vector<Holding>& seen, double per_token) {
  std::vector<double> bytes;
  bytes.reserve(seen.size());
  for (const Holding& one : seen) bytes.push_back(std::max(bytes_of(one) - per_token * one.longest_tokens, 0.0));
  return static_cast<std::uint64_t>(median(std::move(bytes)));
}

/// What replicas hold of their own grows with the longest request that they had: a line through what one held after a
/// short and after a long one. A GPU's state is without its KV cache, and does not grow.
void calibrate_memory(ModelClass& kind, const ModelProbes& probes) {
  std::vector<double> slopes;
  for (std::size_t n = 0; n < std::min(probes.short_up.size(), probes.long_up.size()); ++n) {
    const Holding &less = probes.short_up[n], &more = probes.long_up[n];
    if (more.longest_tokens > less.longest_tokens)
      slopes.push_back((bytes_of(more) - bytes_of(less)) / (more.longest_tokens - less.longest_tokens));
  }
  const double per_token = std::max(median(std::move(slopes)), 0.0);
  kind.bytes_per_token = static_cast<std::uint64_t>(per_token);
  if (!probes.long_up.empty()) kind.resident_bytes = before_any(probes.long_up, per_token);
  if (!probes.resting.empty()) kind.state_bytes = std::min(before_any(probes.resting, per_token), kind.working_bytes);
}

}  // namespace

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

PromptLine fit_prompts(const std::vector<Probe>& warm) {
  std::vector<double> slopes;
  for (std::size_t a = 0; a < warm.size(); ++a) {
    for (std::size_t b = a + 1; b < warm.size(); ++b) {
      const double tokens = static_cast<double>(warm[b].prompt_tokens) - warm[a].prompt_tokens;
      if (std::abs(tokens) * kFarApart >= std::max(warm[a].prompt_tokens, warm[b].prompt_tokens))
        slopes.push_back((warm[b].first_s - warm[a].first_s) / tokens);
    }
  }
  PromptLine line;
  line.token_s = std::max(median(std::move(slopes)), 0.0);
  line.prompt_s =
      median_of(warm, [&](const Probe& probe) { return probe.first_s - line.token_s * probe.prompt_tokens; });
  if (line.prompt_s >= 0) return line;
  // Through the origin then.
  return {0, median_of(warm, [](const Probe& probe) { return probe.first_s / std::max(probe.prompt_tokens, 1U); })};
}

void calibrate(ModelClass& kind, const ModelProbes& probes) {
  Measured& measured = kind.measured;
  const PromptLine line = fit_prompts(probes.warm);
  const auto prompt_of = [&](const Probe& probe) { return line.prompt_s + line.token_s * probe.prompt_tokens; };
  const auto queued = [](const Probe& probe) { return probe.queued_s; };
  if (!probes.warm.empty()) {
    measured.prompt = of_s(line.prompt_s);
    measured.prompt_token = of_s(line.token_s);
  }
  if (!probes.decode.empty()) {
    const double alone_s = median_of(probes.decode, token_s);
    const double more_s =
        probes.together.empty() ? 0 : std::clamp(median_of(probes.together, token_s) - alone_s, 0.0, alone_s);
    kind.per_sequence = of_s(more_s);
    measured.step = of_s(alone_s - more_s);
  }
  // What a first answer has beyond its prompt. Where weights are read meanwhile it ends with them at the earliest: what
  // it would have taken without is not seen, and not needed.
  const auto beyond = [&](const Probe& probe) { return probe.first_s - prompt_of(probe); };
  if (!probes.starts.empty()) {
    measured.start = of_s(median_of(probes.starts, queued));
    measured.first_answer = of_s(median_of(probes.starts, beyond));
  }
  if (!probes.from_disk.empty()) measured.first_from_disk = of_s(median_of(probes.from_disk, beyond));
  // No longer than later: what is between them is noise.
  const auto soon = [&](const std::vector<Probe>& these, base::Duration late) {
    return std::min(of_s(median_of(these, beyond)), late);
  };
  if (!probes.soon_from_disk.empty() && measured.first_from_disk)
    measured.soon_from_disk = soon(probes.soon_from_disk, *measured.first_from_disk);
  if (!probes.wakes.empty()) {
    measured.wake = of_s(median_of(probes.wakes, queued));
    measured.first_after_wake = of_s(median_of(probes.wakes, beyond));
    if (!probes.soon_wakes.empty()) measured.soon_after_wake = soon(probes.soon_wakes, measured.first_after_wake);
  }
  if (!probes.freeze_s.empty()) measured.freeze = of_s(median(probes.freeze_s));
  if (!probes.stop_s.empty()) measured.stop = of_s(median(probes.stop_s));
  calibrate_memory(kind, probes);
}

double disk_rate(const std::vector<ModelProbes>& models) {
  std::vector<double> rates;
  for (const ModelProbes& model : models) {
    for (const Probe& probe : model.from_disk) {
      if (probe.read_bytes > 0 && probe.read_s > 0)
        rates.push_back(static_cast<double>(probe.read_bytes) / probe.read_s);
    }
  }
  return median(std::move(rates));
}

namespace {

/// Until the first answer of one that comes up alone.
double alone_s(const Fleet& fleet, const RisingProbe::Riser& riser, bool late) {
  const auto kind = std::find_if(fleet.models.begin(), fleet.models.end(),
                                 [&](const ModelClass& m) { return m.name == riser.model; });
  if (kind == fleet.models.end() || !kind->measured.prompt_token) return 0;
  const NodeShape& node = fleet.nodes.front();
  const double computes_s = base::to_s(fixed_cost(fleet, *kind, riser.way)) +
                            prompt_s(fleet, node, *kind, riser.prompt_tokens) +
                            base::to_s(first_answer_cost(*kind, riser.way, 1, late ? 1 : 0));
  const double reads_s = node.disk_bytes_per_s > 0
                             ? static_cast<double>(kind->weights_bytes) / static_cast<double>(node.disk_bytes_per_s)
                             : 0;
  return std::max(computes_s, reads_s);
}

}  // namespace

void calibrate(Fleet& fleet, const SharingProbes& probes, const std::vector<RisingProbe>& rising) {
  if (!probes.together_s.empty()) {
    const double together_s = median(probes.together_s);
    fleet.contended_rate = together_s > 0 ? std::clamp(median(probes.apart_s) / together_s, kLeastRate, 1.0) : 1.0;
  }
  // A burst has both: who comes first takes the memory that others have just left. So all that they take alone, of both
  // sorts, for all that they take together.
  double apart_s = 0, together_s = 0;
  for (const bool late : {false, true}) {
    std::vector<double> aparts, togethers;
    for (const RisingProbe& probe : rising) {
      if (probe.late != late) continue;
      aparts.push_back(0);
      for (const RisingProbe::Riser& riser : probe.risers) aparts.back() += alone_s(fleet, riser, late);
      togethers.push_back(probe.together_s);
    }
    apart_s += median(std::move(aparts));
    together_s += median(std::move(togethers));
  }
  if (together_s > 0) fleet.rising_rate = std::clamp(apart_s / together_s, kLeastRate, 1.0);
  if (!probes.fresh_beside_s.empty()) {
    const double beside_s = median(probes.fresh_beside_s);
    const double speed = beside_s > 0 ? median(probes.fresh_alone_s) / beside_s : kMostShare;
    fleet.fresh_share = std::clamp(speed / fleet.rising_rate.value_or(fleet.contended_rate), kLeastShare, kMostShare);
  }
}

std::string to_yaml(const Fleet& fleet) {
  std::string text = fmt::format("apiVersion: thaw/v1\nkind: Fleet\nname: {}\nnodes:\n", fleet.name);
  for (const NodeShape& node : fleet.nodes) text += node_yaml(node);
  text += "models:\n";
  for (const ModelClass& model : fleet.models) text += model_yaml(model);
  text +=
      fmt::format("costs: {{start: {}, restore: {}, wake: {}, freeze: {}, stop: {}, request: {}, iteration: {}}}\n",
                  duration_text(fleet.costs.start), duration_text(fleet.costs.restore), duration_text(fleet.costs.wake),
                  duration_text(fleet.costs.freeze), duration_text(fleet.costs.stop),
                  duration_text(fleet.costs.request), duration_text(fleet.costs.iteration));
  if (fleet.contended_rate < 1) text += fmt::format("contendedRate: {:.3f}\n", fleet.contended_rate);
  if (fleet.rising_rate) text += fmt::format("risingRate: {:.3f}\n", *fleet.rising_rate);
  if (fleet.fresh_share != 0.5) text += fmt::format("freshShare: {:.3f}\n", fleet.fresh_share);
  text += fmt::format("promptEfficiency: {}\ndecodeEfficiency: {}\ndeviceHourPrice: {}\nimages: {}\n",
                      fleet.prompt_efficiency, fleet.decode_efficiency, fleet.device_hour_price,
                      fleet.images_ready ? "ready" : "made");
  return text;
}

}  // namespace thaw::sim
