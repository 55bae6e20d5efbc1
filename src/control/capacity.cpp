// What can never fit, as opposed to not now: said at deploy, and to requests at once instead of at the end of their wait.
#include <algorithm>
#include <map>

#include "base/units.h"
#include "control/state.h"

namespace thaw::control {

namespace {

std::string on(const Device& d) { return d.node.str() + "/" + d.info.id.str(); }

}  // namespace

/// Bytes of `d` that other models never give up: replicas that are here and are needed for their minReplicas.
std::uint64_t Scheduler::State::kept_for_others(const Device& d, const Model* except) const {
  if (keepers.empty()) return 0;
  std::map<std::uint64_t, std::pair<const Model*, std::uint32_t>> here;  // by timer owner: a fixed order
  const auto count = [&](const Model* m) {
    if (m == except || m->min_replicas() == 0) return;
    auto& [model, replicas] = here[m->timer.owner];
    model = m;
    ++replicas;
  };
  for (const Instance* i : d.instances) {
    if (i->rising() || i->usable()) count(i->model);
  }
  for (const Device::Claim& c : d.claims) count(c.model);
  std::uint64_t kept = 0;
  for (const auto& [owner, entry] : here) {
    const auto& [model, replicas] = entry;
    const std::uint32_t elsewhere = model->replicas() - replicas;
    const std::uint32_t min = model->min_replicas();
    kept += model->bytes * std::min(replicas, min > elsewhere ? min - elsewhere : 0U);
  }
  return kept;
}

bool Scheduler::State::can_ever_fit(const Device& d, const Model& m) const {
  return d.duty == Duty::open && d.info.kind == m.spec.resources.device && kept_for_others(d, &m) + m.bytes <= d.info.budget_bytes;
}

/// Empty if some device can hold a replica of `m` once others have left; else why not.
std::string Scheduler::State::why_never(const Model& m) const {
  bool kind_exists = false, all_closed = true;
  for (const auto& d : devices) {
    if (can_ever_fit(*d, m)) return {};
    const bool right_kind = d->info.kind == m.spec.resources.device;
    kind_exists = kind_exists || right_kind;
    all_closed = all_closed && (!right_kind || d->duty != Duty::open);
  }
  if (!kind_exists) return "model " + m.name() + ": no node has a " + spec::to_string(m.spec.resources.device) + " device at present";
  if (all_closed) {
    return "model " + m.name() + ": every " + spec::to_string(m.spec.resources.device) +
           " device is cordoned or drained at present; `thaw uncordon NODE` opens them again";
  }
  return "model " + m.name() + " has no room for its " + base::format_bytes(m.bytes) + " on any " +
         spec::to_string(m.spec.resources.device) + " device beside the replicas that other models always keep; lower their "
         "scaling.minReplicas or add a device";
}

base::Status Scheduler::State::can_ever_run(const spec::ModelSpec& spec) const {
  const char* const kind = spec::to_string(spec.resources.device);
  const std::string subject = "model " + spec.name.str() + " cannot run: ";
  if (!spec.resources.device_memory_bytes) {
    return base::Error{base::ErrorKind::invalid, subject + "its device memory is not known; set resources.deviceMemory"};
  }
  const std::uint64_t bytes = *spec.resources.device_memory_bytes;
  const auto found = models.find(spec.name);
  const Model* const present = found == models.end() ? nullptr : found->second.get();

  struct Room {
    const Device* device;
    std::uint64_t bytes;
  };
  std::vector<Room> rooms;
  std::uint64_t largest = 0;
  for (const auto& d : devices) {
    if (d->info.kind != spec.resources.device) continue;
    largest = std::max(largest, d->info.budget_bytes);
    rooms.push_back({d.get(), d->info.budget_bytes - std::min(d->info.budget_bytes, kept_for_others(*d, present))});
  }
  if (rooms.empty()) {
    return base::Error{base::ErrorKind::unavailable,
                       subject + "no node has a " + kind + " device; see thaw doctor, or set resources.device"};
  }
  if (bytes > largest) {
    return base::Error{base::ErrorKind::invalid,
                       subject + "it needs " + base::format_bytes(bytes) + " and the largest " + kind + " device may hold " +
                           base::format_bytes(largest) + "; lower the context, take a smaller model, or raise the device's budget"};
  }
  // Replicas that others' minReplicas still lack will come: put them where they leave the largest room, largest first.
  const auto take = [&](std::uint64_t size) {
    const auto widest = std::max_element(rooms.begin(), rooms.end(), [](const Room& a, const Room& b) { return a.bytes < b.bytes; });
    if (widest->bytes < size) return false;
    const auto tightest = std::min_element(rooms.begin(), rooms.end(), [&](const Room& a, const Room& b) {
      return (a.bytes >= size ? a.bytes : UINT64_MAX) < (b.bytes >= size ? b.bytes : UINT64_MAX);
    });
    tightest->bytes -= size;
    return true;
  };
  std::vector<std::uint64_t> lacking;
  for (const Model* m : keepers) {
    if (m == present || m->spec.resources.device != spec.resources.device) continue;
    for (std::uint32_t n = m->replicas(); n < m->min_replicas(); ++n) lacking.push_back(m->bytes);
  }
  std::sort(lacking.rbegin(), lacking.rend());
  for (const std::uint64_t size : lacking) take(size);
  const std::uint32_t wanted = std::max(spec.scaling.min_replicas, 1U);
  for (std::uint32_t n = 0; n < wanted; ++n) {
    if (take(bytes)) continue;
    const auto widest = std::max_element(rooms.begin(), rooms.end(), [](const Room& a, const Room& b) { return a.bytes < b.bytes; });
    return base::Error{base::ErrorKind::exhausted,
                       subject + "it needs " + base::format_bytes(bytes) + " for each of " + std::to_string(wanted) +
                           " replica(s), but beside what other models' scaling.minReplicas keep and " + std::to_string(n) +
                           " of its own only " + base::format_bytes(widest->bytes) + " can be freed (" + on(*widest->device) +
                           "); lower minReplicas somewhere"};
  }
  return {};
}

}  // namespace thaw::control
