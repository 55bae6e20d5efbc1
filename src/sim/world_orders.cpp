// What a policy orders, and how long it takes.
#include <algorithm>
#include <cassert>

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

World::Instance& World::create(base::InstanceId id, ModelIndex model, DeviceIndex device, State state) {
  const auto [at, fresh] = instances_.try_emplace(id);
  if (!fresh) violation("an instance's id was used twice");
  Instance& instance = at->second;
  instance.model = model;
  instance.device = device;
  instance.state = state;
  hold(devices_[device], plus(class_of(model).device_bytes()));
  return instance;
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
}

bool World::has_image(std::uint32_t node, ModelIndex model) const {
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
  double bytes = nodes_[node].cache.has(model) ? 0 : static_cast<double>(kind.weights_bytes);
  if (way == wire::Way::restore) bytes += static_cast<double>(kind.state_bytes);
  return way == wire::Way::wake ? 0 : bytes;
}

double World::bus_bytes(ModelIndex model, wire::Way way) const {
  const ModelClass& kind = class_of(model);
  return static_cast<double>(way == wire::Way::start ? kind.weights_bytes : kind.kept_bytes());
}

base::Duration World::estimate(ModelIndex model, DeviceIndex device) const {
  const std::uint32_t node = devices_[device].node;
  const wire::Way way = has_image(node, model) ? wire::Way::restore : wire::Way::start;
  const NodeShape& shape = *nodes_[node].shape;
  const auto ahead = [&](std::uint64_t link) { return links_[link].bytes_left(now_) + planned_bytes_[link]; };
  const double disk_s =
      (ahead(disk_of(node)) + disk_bytes(node, model, way)) / static_cast<double>(shape.disk_bytes_per_s);
  const double bus_s = (ahead(bus_of(device)) + bus_bytes(model, way)) / static_cast<double>(shape.bus_bytes_per_s);
  const base::Duration fixed = way == wire::Way::restore ? fleet_.costs.restore : fleet_.costs.start;
  return fixed + base::Duration(static_cast<std::int64_t>(std::max(disk_s, bus_s) * 1e9));
}

// --- ways

/// What is fixed comes first, then the bytes over disk and bus at the same time.
void World::start(base::InstanceId id, ModelIndex model, DeviceIndex device, wire::Way way) {
  Instance& instance = create(id, model, device, State::rising);
  if (way == wire::Way::restore && !has_image(devices_[device].node, model)) {
    violation("a restore without an image");
    way = wire::Way::start;
  }
  instance.way = way;
  instance.reads = !nodes_[devices_[device].node].cache.has(model);
  begin_way(id, instance, way == wire::Way::restore ? fleet_.costs.restore : fleet_.costs.start,
            disk_bytes(devices_[device].node, model, way), bus_bytes(model, way));
}

void World::start_ready(base::InstanceId id, ModelIndex model, DeviceIndex device) {
  assert(now_ == base::TimePoint{});
  become_ready(id, create(id, model, device, State::rising));
}

void World::make_image(base::InstanceId id, ModelIndex model, DeviceIndex device) {
  const double image = static_cast<double>(class_of(model).state_bytes);
  begin_way(id, create(id, model, device, State::imaging), fleet_.costs.start,
            disk_bytes(devices_[device].node, model, wire::Way::start) + image, bus_bytes(model, wire::Way::start));
}

void World::freeze(base::InstanceId id) {
  Instance* const instance = find(id);
  if (instance == nullptr || instance->state != State::ready || !instance->requests.empty())
    return violation("an instance was to be frozen that is not idle");
  instance->state = State::freezing;
  instance->host_bytes = class_of(instance->model).kept_bytes();
  hold_standby(nodes_[devices_[instance->device].node], plus(instance->host_bytes));
  cancel_way(id, *instance);
  begin_way(id, *instance, fleet_.costs.freeze, 0, static_cast<double>(instance->host_bytes));
}

void World::wake(base::InstanceId id) {
  Instance* const instance = find(id);
  if (instance == nullptr || instance->state != State::standby)
    return violation("an instance was to be woken that is not in standby");
  instance->state = State::waking;
  instance->way = wire::Way::wake;
  instance->on_device = true;
  hold(devices_[instance->device], plus(class_of(instance->model).device_bytes()));
  cancel_way(id, *instance);
  begin_way(id, *instance, fleet_.costs.wake, 0, bus_bytes(instance->model, wire::Way::wake));
}

void World::stop(base::InstanceId id) {
  Instance* const instance = find(id);
  if (instance == nullptr) return violation("an instance was to be stopped that is none any more");
  if (instance->state == State::stopping) return;
  if (!instance->requests.empty()) violation("an instance was stopped under its requests");
  for (const RequestIndex request : instance->requests) {
    outcome_.delay_s[request] = Outcome::kRefused;
    ++outcome_.refused;
    --open_;
  }
  Device& device = devices_[instance->device];
  if (!instance->requests.empty()) {
    device.compute.drop_work(instance->slot, now_);
    plan_compute(instance->device);
    instance->requests.clear();
  }
  cancel_way(id, *instance);
  instance->state = State::stopping;
  ++outcome_.stops;
  plan_instance(id, *instance, fleet_.costs.stop);
}

void World::begin_way(base::InstanceId id, Instance& instance, base::Duration fixed, double disk, double bus) {
  instance.planned_disk = disk;
  instance.planned_bus = bus;
  planned_bytes_[disk_of(devices_[instance.device].node)] += disk;
  planned_bytes_[bus_of(instance.device)] += bus;
  plan_instance(id, instance, fixed);
}

void World::forget_plan(Instance& instance) {
  planned_bytes_[disk_of(devices_[instance.device].node)] -= instance.planned_disk;
  planned_bytes_[bus_of(instance.device)] -= instance.planned_bus;
  instance.planned_disk = instance.planned_bus = 0;
}

void World::cancel_way(base::InstanceId id, Instance& instance) {
  ++instance.way_number;
  instance.disk_done = instance.bus_done = false;
  forget_plan(instance);
  const std::uint64_t disk = disk_of(devices_[instance.device].node), bus = bus_of(instance.device);
  for (const std::uint64_t link : {disk, bus}) {
    links_[link].remove(id.value(), now_);
    plan_link(link);
  }
}

void World::move(base::InstanceId id, Instance& instance, double disk, double bus) {
  const std::uint64_t disk_link = disk_of(devices_[instance.device].node), bus_link = bus_of(instance.device);
  instance.disk_done = disk <= 0;
  instance.bus_done = bus <= 0;
  instance.moves_since = instance.read_at = now_;
  if (disk > 0) {
    links_[disk_link].add(id.value(), disk, now_);
    plan_link(disk_link);
  }
  if (bus > 0) {
    links_[bus_link].add(id.value(), bus, now_);
    plan_link(bus_link);
  }
  if (instance.disk_done && instance.bus_done) settle(id, instance);
}

void World::fixed_done(base::InstanceId id) {
  Instance& instance = *find(id);
  if (instance.state == State::stopping) return vanish(id);
  const double disk = instance.planned_disk, bus = instance.planned_bus;
  forget_plan(instance);
  move(id, instance, disk, bus);
}

void World::link_done(std::uint64_t link) {
  const base::InstanceId id(links_[link].pop(now_));
  plan_link(link);
  Instance& instance = *find(id);
  (link < nodes_.size() ? instance.disk_done : instance.bus_done) = true;
  if (link < nodes_.size()) instance.read_at = now_;
  if (instance.disk_done && instance.bus_done) settle(id, instance);
}

/// The way it was on is at its end.
void World::settle(base::InstanceId id, Instance& instance) {
  Device& device = devices_[instance.device];
  Node& node = nodes_[device.node];
  const ModelClass& kind = class_of(instance.model);
  switch (instance.state) {
    case State::rising:
      node.cache.use(instance.model, kind.weights_bytes);
      return become_ready(id, instance);
    case State::waking:
      hold_standby(node, minus(instance.host_bytes));
      instance.host_bytes = 0;
      return become_ready(id, instance);
    case State::freezing:
      instance.state = State::standby;
      node.cache.demote(instance.model);  // it comes up without its files (control::HostCache::instance_resting)
      device.compute.remove_replica(instance.slot);
      instance.has_slot = false;
      instance.on_device = false;
      hold(device, minus(kind.device_bytes()));
      ++outcome_.freezes;
      return policy_.in_standby(*this, id);
    case State::imaging:
      node.cache.use(instance.model, kind.weights_bytes);
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

void World::become_ready(base::InstanceId id, Instance& instance) {
  Device& device = devices_[instance.device];
  const ModelClass& kind = class_of(instance.model);
  const NodeShape& shape = *nodes_[device.node].shape;
  instance.state = State::ready;
  const double read_s = static_cast<double>(kind.weights_bytes) /
                        (static_cast<double>(shape.memory_bytes_per_s) * fleet_.decode_efficiency);
  instance.slot =
      device.compute.add_replica(base::to_s(fleet_.costs.iteration) + read_s, base::to_s(kind.per_sequence));
  instance.has_slot = true;
  ++(instance.way == wire::Way::wake      ? outcome_.wakes
     : instance.way == wire::Way::restore ? outcome_.restores
                                          : outcome_.starts);
  policy_.ready(*this, id, instance.way);
}

wire::Phase World::loaded(base::InstanceId id) const {
  const Instance& instance = instances_.at(id);
  const std::uint64_t weights = class_of(instance.model).weights_bytes;
  wire::Phase phase{"weights", {}, instance.read_at - instance.moves_since};
  phase.bytes = wire::PhaseBytes{instance.reads ? weights : 0, instance.reads ? 0 : weights};
  return phase;
}

void World::vanish(base::InstanceId id) {
  Instance& instance = *find(id);
  Device& device = devices_[instance.device];
  if (instance.has_slot) device.compute.remove_replica(instance.slot);
  if (instance.on_device) hold(device, minus(class_of(instance.model).device_bytes()));
  if (instance.host_bytes > 0) hold_standby(nodes_[device.node], minus(instance.host_bytes));
  instances_.erase(id);
  policy_.gone(*this, id);
}

}  // namespace thaw::sim
