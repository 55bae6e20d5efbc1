#include "control/rollout.h"

#include <algorithm>

namespace thaw::control {
namespace {

/// SplitMix64's finaliser: neighbouring keys land far from each other.
std::uint64_t mixed(std::uint64_t key) {
  key += 0x9e3779b97f4a7c15ULL;
  key = (key ^ (key >> 30)) * 0xbf58476d1ce4e5b9ULL;
  key = (key ^ (key >> 27)) * 0x94d049bb133111ebULL;
  return key ^ (key >> 31);
}

std::uint64_t of_one_device(const spec::Resources& resources) {
  const std::uint64_t bytes = resources.device_memory_bytes.value_or(0);
  return bytes / resources.devices + (bytes % resources.devices > 0 ? 1 : 0);
}

/// Whether devices hold a replica of the new one beside one of the old one.
bool room_for_both(const spec::ModelSpec& old_spec, const spec::ModelSpec& new_spec,
                   const std::vector<DeviceView>& devices) {
  const std::uint64_t old_bytes = of_one_device(old_spec.resources);
  const std::uint64_t new_bytes = of_one_device(new_spec.resources);
  const bool same_kind = old_spec.resources.device == new_spec.resources.device;
  std::uint32_t room = 0;  // devices that hold the new one where no old one is
  std::uint32_t both = 0;
  for (const DeviceView& device : devices) {
    if (device.info.kind != new_spec.resources.device || device.info.budget_bytes < new_bytes) continue;
    ++room;
    if (device.info.budget_bytes - new_bytes >= old_bytes) ++both;
  }
  if (!same_kind) return true;
  return both >= new_spec.resources.devices || room >= new_spec.resources.devices + old_spec.resources.devices;
}

}  // namespace

const char* to_string(Succession succession) {
  switch (succession) {
    case Succession::in_place:
      return "in_place";
    case Succession::at_once:
      return "at_once";
    case Succession::displaced:
      return "displaced";
    case Succession::beside:
      return "beside";
  }
  return "beside";
}

const char* to_string(RolloutStage stage) {
  switch (stage) {
    case RolloutStage::none:
      return "none";
    case RolloutStage::starting:
      return "starting";
    case RolloutStage::split:
      return "split";
  }
  return "none";
}

namespace {

/// llama.cpp numbers its adapters in the order in which it is given them, and loads all; the others are told of each by name when it is asked for the first
/// time, so that one more than they need does not matter to them.
bool adapters_differ(const spec::ModelSpec& a, const spec::ModelSpec& b) {
  if (b.engine == spec::EngineKind::llama_cpp) return !same_adapters(a.adapters, b.adapters);
  return !std::all_of(b.adapters.begin(), b.adapters.end(),
                      [&](const spec::Adapter& one) { return place_of_adapter(a, one.name, one.path).has_value(); });
}

}  // namespace

bool engine_differs(const spec::ModelSpec& a, const spec::ModelSpec& b) {
  return adapters_differ(a, b) || a.source.path != b.source.path || a.engine != b.engine || a.engine_path != b.engine_path || a.args != b.args ||
         a.command != b.command || a.ready_path != b.ready_path || a.env != b.env || a.image != b.image ||
         a.image_digest != b.image_digest || a.network.egress != b.network.egress ||
         a.resources.device != b.resources.device || a.resources.devices != b.resources.devices ||
         a.resources.device_memory_bytes != b.resources.device_memory_bytes || a.resources.cpus != b.resources.cpus ||
         a.resources.host_memory_bytes != b.resources.host_memory_bytes ||
         a.scaling.target_concurrency != b.scaling.target_concurrency;
}

Succession succession(const spec::ModelSpec& old_spec, const spec::ModelSpec& new_spec, bool shares,
                      const ModelView* old_view, const std::vector<DeviceView>& devices) {
  if (!shares && !engine_differs(old_spec, new_spec)) return Succession::in_place;
  if (shares) return Succession::beside;
  const bool runs =
      old_view != nullptr && (old_view->ready + old_view->starting + old_view->waking > 0 || !has_drained(*old_view));
  if (!runs && old_spec.scaling.min_replicas == 0) return Succession::at_once;
  return room_for_both(old_spec, new_spec, devices) ? Succession::beside : Succession::displaced;
}

RolloutStep next_step(RolloutStage stage, std::uint32_t percent, const ModelView& candidate, base::TimePoint deadline,
                      base::TimePoint now) {
  if (stage != RolloutStage::starting) return RolloutStep::wait;
  if (candidate.ready > 0) return percent >= 100 ? RolloutStep::promote : RolloutStep::share;
  if (candidate.start_failures >= kRolloutStartFailures || now >= deadline) return RolloutStep::fail;
  return RolloutStep::wait;
}

bool has_drained(const ModelView& retired) {
  return retired.queued == 0 && retired.in_flight == 0;
}

bool goes_to_candidate(std::uint64_t key, std::uint32_t percent) {
  return mixed(key) % 100 < percent;
}

std::vector<std::uint32_t> surplus_revisions(const std::vector<std::uint32_t>& numbers,
                                             const std::vector<std::uint32_t>& in_use, std::uint32_t keep) {
  std::vector<std::uint32_t> surplus;
  std::size_t left = numbers.size();
  for (const std::uint32_t number : numbers) {
    if (left <= keep) break;
    if (std::find(in_use.begin(), in_use.end(), number) != in_use.end()) continue;
    surplus.push_back(number);
    --left;
  }
  return surplus;
}

}  // namespace thaw::control
