// What can never fit, as opposed to not now: said at deploy, and to requests at once instead of at the end of their wait.
#include <algorithm>
#include <map>

#include "base/units.h"
#include "control/state.h"

namespace thaw::control {

namespace {

std::uint32_t most_devices(const std::vector<std::unique_ptr<Node>>& nodes, spec::DeviceKind kind) {
  std::size_t most = 0;
  for (const auto& node : nodes) {
    const auto here = std::count_if(node->devices.begin(), node->devices.end(), [&](const Device* d) { return d->info.kind == kind; });
    most = std::max(most, static_cast<std::size_t>(here));
  }
  return static_cast<std::uint32_t>(most);
}

std::string too_few_devices(std::uint32_t wanted, spec::DeviceKind kind, std::uint32_t most) {
  if (kind == spec::DeviceKind::cpu) return "it takes " + std::to_string(wanted) + " cpu devices, and a node has one cpu device; set resources.device to cuda";
  return "it takes " + std::to_string(wanted) + " " + spec::to_string(kind) + " devices of one node, and no node has more than " + std::to_string(most) +
         "; lower resources.devices";
}

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

/// Whether as many of its devices as a replica takes can each hold their share.
bool Scheduler::State::can_ever_fit(const Node& node, const Model& m) const {
  const auto fit = std::count_if(node.devices.begin(), node.devices.end(), [&](const Device* d) { return can_ever_fit(*d, m); });
  return static_cast<std::uint64_t>(fit) >= m.devices();
}

/// Empty if some device can hold a replica of `m` once others have left; else why not.
std::string Scheduler::State::why_never(const Model& m) const {
  bool kind_exists = false, all_closed = true;
  for (const auto& d : devices) {
    if (can_ever_fit(*d, m) && (!m.gang() || can_ever_fit(*d->owner, m))) return {};
    const bool right_kind = d->info.kind == m.spec.resources.device;
    kind_exists = kind_exists || right_kind;
    all_closed = all_closed && (!right_kind || d->duty != Duty::open);
  }
  const std::uint32_t most = most_devices(nodes, m.spec.resources.device);
  if (m.devices() > most && most > 0) return "model " + m.name() + ": " + too_few_devices(m.devices(), m.spec.resources.device, most);
  if (!kind_exists) return "model " + m.name() + ": no node has a " + spec::to_string(m.spec.resources.device) + " device at present";
  if (all_closed) {
    return "model " + m.name() + ": every " + spec::to_string(m.spec.resources.device) +
           " device is cordoned or drained at present; `thaw uncordon NODE` opens them again";
  }
  return "model " + m.name() + " has no room for its " + base::format_bytes(m.bytes) +
         (m.gang() ? " on each of " + std::to_string(m.devices()) + " of a node's " : std::string(" on any ")) +
         spec::to_string(m.spec.resources.device) + " device" + (m.gang() ? "s" : "") + " beside the replicas that other models always keep; lower their "
         "scaling.minReplicas or add a device";
}

namespace {

/// What is left of a device for those that are still to come.
struct Room {
  const Device* device;
  std::uint64_t bytes;
};

/// Takes `size` on `devices` rooms of one node: where the largest rooms stay, as far as one can see that ahead (of nodes that can hold it the one with the
/// least room left on the devices taken). False: no node has them.
bool take_rooms(std::vector<Room>& rooms, std::uint64_t size, std::uint32_t devices) {
  if (devices == 1) {
    const auto left = [&](const Room& room) { return room.bytes >= size ? room.bytes : UINT64_MAX; };
    const auto tightest = std::min_element(rooms.begin(), rooms.end(), [&](const Room& a, const Room& b) { return left(a) < left(b); });
    if (tightest->bytes < size) return false;
    tightest->bytes -= size;
    return true;
  }
  std::map<std::uint64_t, std::vector<Room*>> by_node;
  for (Room& room : rooms) {
    if (room.bytes >= size) by_node[room.device->owner->number].push_back(&room);
  }
  std::vector<Room*> best;
  std::uint64_t least = UINT64_MAX;
  for (auto& [number, fitting] : by_node) {
    if (fitting.size() < devices) continue;
    std::stable_sort(fitting.begin(), fitting.end(), [](const Room* a, const Room* b) { return a->bytes < b->bytes; });
    const std::uint64_t widest = fitting[devices - 1]->bytes;
    if (widest >= least) continue;
    least = widest;
    best.assign(fitting.begin(), fitting.begin() + devices);
  }
  for (Room* room : best) room->bytes -= size;
  return !best.empty();
}

/// The node on which a replica of so many devices would find most room on each: how much, and on which device that is the limit.
Room widest_rooms(std::vector<Room> rooms, std::uint32_t devices) {
  std::map<std::uint64_t, std::vector<Room>> by_node;
  for (const Room& room : rooms) by_node[room.device->owner->number].push_back(room);
  Room widest{rooms.front().device, 0};
  for (auto& [number, here] : by_node) {
    if (here.size() < devices) continue;
    std::stable_sort(here.begin(), here.end(), [](const Room& a, const Room& b) { return a.bytes > b.bytes; });
    if (here[devices - 1].bytes > widest.bytes) widest = here[devices - 1];
  }
  return widest;
}

}  // namespace

base::Status Scheduler::State::can_ever_run(const spec::ModelSpec& spec) const {
  const char* const kind = spec::to_string(spec.resources.device);
  const std::string subject = "model " + base::public_model(spec.name) + " cannot run: ";
  if (!spec.resources.device_memory_bytes) {
    return base::Error{base::ErrorKind::invalid, subject + "its device memory is not known; set resources.deviceMemory"};
  }
  const std::uint32_t devices_wanted = spec.resources.devices;
  const std::uint64_t all_bytes = *spec.resources.device_memory_bytes;
  const std::uint64_t bytes = all_bytes / devices_wanted + (all_bytes % devices_wanted > 0 ? 1 : 0);
  const std::string on_each = devices_wanted > 1 ? " on each of " + std::to_string(devices_wanted) + " devices" : "";
  const auto found = models.find(spec.name);
  const Model* const present = found == models.end() ? nullptr : found->second.get();

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
  if (const std::uint32_t most = most_devices(nodes, spec.resources.device); devices_wanted > most)
    return base::Error{base::ErrorKind::invalid, subject + too_few_devices(devices_wanted, spec.resources.device, most)};
  if (bytes > largest) {
    return base::Error{base::ErrorKind::invalid,
                       subject + "it needs " + base::format_bytes(bytes) + on_each + " and the largest " + kind + " device may hold " +
                           base::format_bytes(largest) + "; lower the context, take a smaller model, or raise the device's budget"};
  }
  // Replicas that others' minReplicas still lack will come: put them where they leave the largest room, largest first.
  std::vector<std::pair<std::uint64_t, std::uint32_t>> lacking;
  for (const Model* m : keepers) {
    if (m == present || m->spec.resources.device != spec.resources.device) continue;
    for (std::uint32_t n = m->replicas(); n < m->min_replicas(); ++n) lacking.emplace_back(m->bytes, m->devices());
  }
  std::sort(lacking.rbegin(), lacking.rend());
  for (const auto& [size, on] : lacking) take_rooms(rooms, size, on);
  const std::uint32_t wanted = std::max(spec.scaling.min_replicas, 1U);
  for (std::uint32_t n = 0; n < wanted; ++n) {
    if (take_rooms(rooms, bytes, devices_wanted)) continue;
    const Room widest = widest_rooms(rooms, devices_wanted);
    return base::Error{base::ErrorKind::exhausted,
                       subject + "it needs " + base::format_bytes(bytes) + on_each + " for each of " + std::to_string(wanted) +
                           " replica(s), but beside what other models' scaling.minReplicas keep and " + std::to_string(n) +
                           " of its own only " + base::format_bytes(widest.bytes) + " can be freed (" + on(*widest.device) +
                           "); lower minReplicas somewhere"};
  }
  return {};
}

}  // namespace thaw::control
