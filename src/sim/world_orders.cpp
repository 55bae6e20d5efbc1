// What a policy orders, and how long it takes.
#include <algorithm>
#include <cassert>
#include <utility>

#include "sim/costs.h"
#include "sim/world.h"

namespace thaw::sim {

namespace {

constexpr double kGiB = 1024.0 * 1024 * 1024;

std::int64_t plus(std::uint64_t bytes) {
  return static_cast<std::int64_t>(bytes);
}
std::int64_t minus(std::uint64_t bytes) {
  return -static_cast<std::int64_t>(bytes);
}

}  // namespace

// --- the books

World::Instance* World::find(base::InstanceId id) {
  const auto found = instances_.find(id);
  return found == instances_.end() ? nullptr : &found->second;
}

World::Instance& World::create(base::InstanceId id, ModelIndex model, const Devices& devices, State state) {
  const auto [at, fresh] = instances_.try_emplace(id);
  if (!fresh) violation("an instance's id was used twice");
  Instance& instance = at->second;
  instance.model = model;
  instance.counted_until = now_;
  const auto elsewhere = [&](DeviceIndex d) { return devices_[d].node != devices_[devices.front()].node; };
  if (devices.size() != class_of(model).devices || std::any_of(devices.begin(), devices.end(), elsewhere))
    violation("an instance does not have as many devices of one machine as it takes");
  instance.device = devices.front();
  instance.devices = devices;
  instance.state = state;
  instance.device_held = class_of(model).share_bytes();
  hold(instance, plus(instance.device_held));
  if (on_cpu(instance)) {
    add_slot(id, instance);
    map_weights(instance, true);
    own(instance, class_of(model).own_bytes());
  }
  return instance;
}

/// On each of its devices.
void World::hold(const Instance& instance, std::int64_t bytes) {
  for (const DeviceIndex d : instance.devices) hold(devices_[d], bytes);
}

void World::hold(Device& device, std::int64_t bytes) {
  const bool was = device.held_bytes > 0;
  device.held_bytes = static_cast<std::uint64_t>(static_cast<std::int64_t>(device.held_bytes) + bytes);
  if (device.held_bytes > device.budget_bytes) violation("a device holds more than it has");
  meter_.held(now_, static_cast<double>(bytes) / static_cast<double>(device.budget_bytes),
              static_cast<int>(device.held_bytes > 0) - static_cast<int>(was));
}

void World::hold_standby(Node& node, std::int64_t bytes) {
  node.standby_bytes = static_cast<std::uint64_t>(static_cast<std::int64_t>(node.standby_bytes) + bytes);
  if (node.standby_bytes > node.shape->standby_bytes)
    violation("a machine holds more in standby than it has memory for");
  node.cache.resize(node.shape->host_bytes - std::min(node.standby_bytes, node.shape->host_bytes));
  meter_.standby(now_, static_cast<double>(bytes) / kGiB);
  note_memory(node);
}

/// The machine's memory that is held: what is in standby, on a CPU also what instances have of their own, and weights
/// in the page cache.
void World::note_memory(Node& node) {
  const std::uint64_t bytes = node.standby_bytes + node.own_bytes + node.cache.used_bytes();
  meter_.memory(now_, static_cast<std::int64_t>(bytes) - static_cast<std::int64_t>(node.noted_bytes));
  node.noted_bytes = bytes;
}

void World::own(Instance& instance, std::uint64_t bytes) {
  Node& node = nodes_[devices_[instance.device].node];
  node.own_bytes = node.own_bytes - instance.own_bytes + bytes;
  instance.own_bytes = bytes;
  note_memory(node);
}

void World::map_weights(Instance& instance, bool map) {
  auto& mapped = nodes_[devices_[instance.device].node].mapped;
  if (map) {
    ++mapped[instance.model];
  } else if (--mapped.at(instance.model) == 0) {
    mapped.erase(instance.model);
  }
}

void World::keep_cached(std::uint32_t node, ModelIndex model, std::uint64_t bytes) {
  Node& of = nodes_[node];
  const std::uint64_t before = of.cache.used_bytes();
  of.cache.keep(model, bytes);
  of.memory.freed(before - of.cache.used_bytes(), now_);
  note_memory(of);
}

bool World::has_image(std::uint32_t node, ModelIndex model) const {
  if (cpu(node)) return false;
  const bool exception = nodes_[node].images.count(model) > 0;
  return fleet_.images_ready ? !exception : exception;
}

void World::drop_image(std::uint32_t node, ModelIndex model) {
  if (fleet_.images_ready)
    nodes_[node].images.insert(model);
  else
    nodes_[node].images.erase(model);
}

// --- costs

double World::disk_bytes(std::uint32_t node, ModelIndex model, wire::Way way) const {
  const ModelClass& kind = class_of(model);
  const auto missing = static_cast<double>(kind.weights_bytes - nodes_[node].cache.resident(model));
  if (cpu(node)) return missing;  // also of a wake: standby takes weights out of memory there
  double bytes = missing;
  if (way == wire::Way::restore) bytes += static_cast<double>(kind.state_bytes);
  return way == wire::Way::wake ? 0 : bytes;
}

double World::bus_bytes(ModelIndex model, wire::Way way) const {
  const ModelClass& kind = class_of(model);
  return static_cast<double>(way == wire::Way::start ? kind.weights_bytes : kind.kept_bytes()) / kind.devices;
}

base::Duration World::estimate(ModelIndex model, const Devices& devices) const {
  const std::uint32_t node = devices_[devices.front()].node;
  const wire::Way way = has_image(node, model) ? wire::Way::restore : wire::Way::start;
  const NodeShape& shape = *nodes_[node].shape;
  const auto ahead = [&](std::uint64_t link) { return links_[link].bytes_left(now_) + planned_bytes_[link]; };
  const double disk_s =
      (ahead(disk_of(node)) + disk_bytes(node, model, way)) / static_cast<double>(shape.disk_bytes_per_s);
  const base::Duration fixed = fixed_cost(fleet_, class_of(model), way);
  if (cpu(node)) return std::max(fixed, base::Duration(static_cast<std::int64_t>(disk_s * 1e9)));
  double bus_s = 0;
  for (const DeviceIndex d : devices)
    bus_s = std::max(bus_s, (ahead(bus_of(d)) + bus_bytes(model, way)) / static_cast<double>(shape.bus_bytes_per_s));
  return fixed + base::Duration(static_cast<std::int64_t>(std::max(disk_s, bus_s) * 1e9));
}

// --- ways

/// What is fixed comes first, then the bytes over disk and bus at the same time. On a CPU both at once, as thaw's node
/// does it: what is fixed computes there, and answers wait for the weights.
void World::start(base::InstanceId id, ModelIndex model, const Devices& devices, wire::Way way) {
  Instance& instance = create(id, model, devices, State::rising);
  const DeviceIndex device = devices.front();
  if (way == wire::Way::restore && !has_image(devices_[device].node, model)) {
    violation("a restore without an image");
    way = wire::Way::start;
  }
  instance.way = way;
  instance.missing_bytes = disk_bytes(devices_[device].node, model, wire::Way::start);
  if (on_cpu(instance)) return rise_on_cpu(id, instance);
  begin_way(id, instance, fixed_cost(fleet_, class_of(model), way), disk_bytes(devices_[device].node, model, way),
            bus_bytes(model, way));
}

void World::start_ready(base::InstanceId id, ModelIndex model, const Devices& devices) {
  assert(now_ == base::TimePoint{});
  Instance& instance = create(id, model, devices, State::rising);
  if (on_cpu(instance)) weights_are_there(id, instance);
  become_ready(id, instance);
}

void World::make_image(base::InstanceId id, ModelIndex model, const Devices& devices) {
  const double image = static_cast<double>(class_of(model).state_bytes);
  begin_way(id, create(id, model, devices, State::imaging), fixed_cost(fleet_, class_of(model), wire::Way::start),
            disk_bytes(devices_[devices.front()].node, model, wire::Way::start) + image,
            bus_bytes(model, wire::Way::start));
}

void World::freeze(base::InstanceId id) {
  Instance* const instance = find(id);
  if (instance == nullptr || instance->state != State::ready || !instance->requests.empty())
    return violation("an instance was to be frozen that is not idle");
  count(*instance);
  instance->state = State::freezing;
  const ModelClass& kind = class_of(instance->model);
  if (on_cpu(*instance)) {
    cancel_way(id, *instance);
    return plan_instance(id, *instance, freeze_cost(fleet_, kind));
  }
  instance->host_bytes = kind.kept_bytes();
  hold_standby(nodes_[devices_[instance->device].node], plus(instance->host_bytes));
  cancel_way(id, *instance);
  begin_way(id, *instance, freeze_cost(fleet_, kind), 0, static_cast<double>(instance->host_bytes) / kind.devices);
}

void World::wake(base::InstanceId id) {
  Instance* const instance = find(id);
  if (instance == nullptr || instance->state != State::standby)
    return violation("an instance was to be woken that is not in standby");
  count(*instance);
  instance->state = State::waking;
  instance->way = wire::Way::wake;
  const ModelClass& kind = class_of(instance->model);
  hold(*instance, plus(kind.share_bytes() - instance->device_held));
  instance->device_held = kind.share_bytes();
  cancel_way(id, *instance);
  if (on_cpu(*instance)) {
    add_slot(id, *instance);
    map_weights(*instance, true);
    own(*instance, kind.own_bytes(instance->longest_tokens));
    return rise_on_cpu(id, *instance);
  }
  begin_way(id, *instance, fixed_cost(fleet_, kind, wire::Way::wake), 0, bus_bytes(instance->model, wire::Way::wake));
}

void World::stop(base::InstanceId id) {
  Instance* const instance = find(id);
  if (instance == nullptr) return violation("an instance was to be stopped that is none any more");
  if (instance->state == State::stopping) return;
  count(*instance);
  if (!instance->requests.empty()) violation("an instance was stopped under its requests");
  for (const RequestIndex request : instance->requests) {
    outcome_.delay_s[request] = Outcome::kRefused;
    ++outcome_.refused;
    --open_;
  }
  Device& device = devices_[instance->device];
  if (!instance->requests.empty() || (instance->has_slot && instance->state != State::ready)) {
    device.compute.drop_work(instance->slot, now_);
    plan_compute(instance->device);
    instance->requests.clear();
    instance->held_up.clear();
  }
  cancel_way(id, *instance);
  instance->state = State::stopping;
  ++outcome_.stops;
  plan_instance(id, *instance, stop_cost(fleet_, class_of(instance->model)));
}

void World::add_slot(base::InstanceId id, Instance& instance) {
  Device& device = devices_[instance.device];
  const Node& node = nodes_[device.node];
  const ModelClass& kind = class_of(instance.model);
  instance.slot = device.compute.add_replica(step_s(fleet_, *node.shape, kind), base::to_s(kind.per_sequence));
  instance.has_slot = true;
  if (!cpu(device.node)) return;
  if (device.by_slot.size() <= instance.slot) device.by_slot.resize(instance.slot + 1);
  device.by_slot[instance.slot] = id;
  device.compute.fresh(instance.slot, kind.device_bytes(), now_);
}

void World::rise_on_cpu(base::InstanceId id, Instance& instance) {
  Device& device = devices_[instance.device];
  const double missing = instance.missing_bytes = disk_bytes(device.node, instance.model, instance.way);
  instance.late_bytes = static_cast<double>(nodes_[device.node].memory.take(static_cast<std::uint64_t>(missing), now_));
  instance.moves_since = instance.read_at = now_;
  device.compute.begin_way(instance.slot, base::to_s(fixed_cost(fleet_, class_of(instance.model), instance.way)), now_);
  plan_compute(instance.device);
  if (missing <= 0) return weights_are_there(id, instance);
  links_[disk_of(device.node)].add(id.value(), missing, now_);
  plan_link(disk_of(device.node));
}

/// On a CPU: also those who waited for them are answered now.
void World::weights_are_there(base::InstanceId id, Instance& instance) {
  Node& node = nodes_[devices_[instance.device].node];
  instance.disk_done = true;
  node.cache.use(instance.model, class_of(instance.model).weights_bytes);
  note_memory(node);
  if (instance.state == State::ready && instance.way == wire::Way::start) policy_.weights_read(*this, id);
  const base::InstanceId answers = id;
  for (;;) {  // each may change the instance
    Instance* const now = find(answers);
    if (now == nullptr) return;
    const auto held =
        std::find_if(now->held_up.begin(), now->held_up.end(), [](const HeldUp& one) { return one.prompt_done; });
    if (held == now->held_up.end()) return;
    const HeldUp there = *held;
    now->held_up.erase(held);
    go_on(*now, there);
  }
}

bool World::weights_there(base::InstanceId id) const {
  const Instance& instance = instances_.at(id);
  return instance.disk_done || !on_cpu(instance);
}

void World::begin_way(base::InstanceId id, Instance& instance, base::Duration fixed, double disk, double bus) {
  instance.planned_disk = disk;
  instance.planned_bus = bus;
  planned_bytes_[disk_of(devices_[instance.device].node)] += disk;
  for (const DeviceIndex d : instance.devices) planned_bytes_[bus_of(d)] += bus;
  plan_instance(id, instance, fixed);
}

void World::forget_plan(Instance& instance) {
  planned_bytes_[disk_of(devices_[instance.device].node)] -= instance.planned_disk;
  for (const DeviceIndex d : instance.devices) planned_bytes_[bus_of(d)] -= instance.planned_bus;
  instance.planned_disk = instance.planned_bus = 0;
}

void World::cancel_way(base::InstanceId id, Instance& instance) {
  ++instance.way_number;
  instance.disk_done = false;
  instance.buses_left = 0;
  forget_plan(instance);
  std::vector<std::uint64_t> links{disk_of(devices_[instance.device].node)};
  for (const DeviceIndex d : instance.devices) links.push_back(bus_of(d));
  for (const std::uint64_t link : links) {
    links_[link].remove(id.value(), now_);
    plan_link(link);
  }
}

void World::move(base::InstanceId id, Instance& instance, double disk, double bus) {
  const std::uint64_t disk_link = disk_of(devices_[instance.device].node);
  instance.disk_done = disk <= 0;
  instance.buses_left = bus > 0 ? static_cast<std::uint32_t>(instance.devices.size()) : 0;
  instance.moves_since = instance.read_at = now_;
  if (disk > 0) {
    links_[disk_link].add(id.value(), disk, now_);
    plan_link(disk_link);
  }
  if (bus > 0) {
    for (const DeviceIndex d : instance.devices) {
      links_[bus_of(d)].add(id.value(), bus, now_);
      plan_link(bus_of(d));
    }
  }
  if (instance.disk_done && instance.buses_left == 0) settle(id, instance);
}

void World::fixed_done(base::InstanceId id) {
  Instance& instance = *find(id);
  if (instance.state == State::stopping) return vanish(id);
  if (on_cpu(instance)) return settle(id, instance);
  const double disk = instance.planned_disk, bus = instance.planned_bus;
  forget_plan(instance);
  move(id, instance, disk, bus);
}

void World::link_done(std::uint64_t link) {
  const base::InstanceId id(links_[link].pop(now_));
  plan_link(link);
  Instance& instance = *find(id);
  if (on_cpu(instance)) {
    instance.read_at = now_;
    return weights_are_there(id, instance);
  }
  if (link < nodes_.size()) {
    instance.disk_done = true;
    instance.read_at = now_;
  } else {
    --instance.buses_left;
  }
  if (instance.disk_done && instance.buses_left == 0) settle(id, instance);
}

/// The way it was on is at its end.
void World::settle(base::InstanceId id, Instance& instance) {
  count(instance);
  Device& device = devices_[instance.device];
  Node& node = nodes_[device.node];
  const ModelClass& kind = class_of(instance.model);
  switch (instance.state) {
    case State::rising:
      if (!cpu(device.node)) {
        node.cache.use(instance.model, kind.weights_bytes);
        note_memory(node);
      }
      return become_ready(id, instance);
    case State::waking:
      hold_standby(node, minus(instance.host_bytes));
      instance.host_bytes = 0;
      return become_ready(id, instance);
    case State::freezing:
      instance.state = State::standby;
      device.compute.remove_replica(instance.slot);
      instance.has_slot = false;
      if (cpu(device.node)) {
        rest_on_cpu(instance);
      } else {
        node.cache.demote(instance.model);  // it comes up without its files (control::HostCache::instance_resting)
        hold(instance, minus(std::exchange(instance.device_held, 0)));
      }
      ++outcome_.freezes;
      return policy_.in_standby(*this, id);
    case State::imaging:
      node.cache.use(instance.model, kind.weights_bytes);
      note_memory(node);
      if (fleet_.images_ready)
        node.images.erase(instance.model);
      else
        node.images.insert(instance.model);
      ++outcome_.images;
      instance.state = State::stopping;
      ++instance.way_number;
      plan_instance(id, instance, fleet_.costs.stop);
      return policy_.imaged(*this, id);
    default:
      assert(false && "nothing was under way");
  }
}

/// What is a copy of a file leaves memory, unless another replica computes with it.
void World::rest_on_cpu(Instance& instance) {
  Device& device = devices_[instance.device];
  const std::uint64_t state = class_of(instance.model).rest_bytes(instance.longest_tokens);
  map_weights(instance, false);
  if (nodes_[device.node].mapped.count(instance.model) == 0) keep_cached(device.node, instance.model, 0);
  own(instance, state);
  hold(device, minus(instance.device_held - state));
  instance.device_held = state;
}

void World::become_ready(base::InstanceId id, Instance& instance) {
  count(instance);
  instance.state = State::ready;
  if (!instance.has_slot) add_slot(id, instance);
  const ModelClass& kind = class_of(instance.model);
  const auto share = [&](double bytes) { return bytes / static_cast<double>(kind.weights_bytes); };
  instance.first_answer =
      first_answer_cost(kind, instance.way, share(instance.missing_bytes), share(instance.late_bytes));
  ++(instance.way == wire::Way::wake      ? outcome_.wakes
     : instance.way == wire::Way::restore ? outcome_.restores
                                          : outcome_.starts);
  policy_.ready(*this, id, instance.way);
}

wire::Phase World::loaded(base::InstanceId id) const {
  const Instance& instance = instances_.at(id);
  const auto read = static_cast<std::uint64_t>(instance.missing_bytes);
  wire::Phase phase{"weights", {}, instance.read_at - instance.moves_since};
  phase.bytes = wire::PhaseBytes{read, class_of(instance.model).weights_bytes - read};
  return phase;
}

void World::vanish(base::InstanceId id) {
  Instance& instance = *find(id);
  Device& device = devices_[instance.device];
  if (instance.has_slot) device.compute.remove_replica(instance.slot);
  if (on_cpu(instance)) {
    if (instance.has_slot) map_weights(instance, false);
    own(instance, 0);
  }
  count(instance);
  held_by_tenant_s_[tenants_.of_model(instance.model)] += std::exchange(instance.unasked_s, 0);
  hold(instance, minus(instance.device_held));
  if (instance.host_bytes > 0) hold_standby(nodes_[device.node], minus(instance.host_bytes));
  instances_.erase(id);
  policy_.gone(*this, id);
}

}  // namespace thaw::sim
