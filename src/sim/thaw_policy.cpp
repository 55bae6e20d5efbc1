#include "sim/thaw_policy.h"

#include <algorithm>
#include <cassert>
#include <charconv>
#include <string_view>
#include <utility>

#include "base/tenancy.h"

namespace thaw::sim {

namespace {

/// An image is listed by its node when the trace begins, if there are not more than so many: memory, and a fleet that
/// large makes its own.
constexpr std::uint64_t kMaxListedImages = 1'000'000;

constexpr std::string_view kModels = "/models/";  ///< in front of a model's number: its source

constexpr std::string_view kReady =
    "ready.";  ///< in front of the ids of images that are there from the first: "ready.MODEL.NODE"

std::uint64_t number(const std::string& text, std::size_t from) {
  std::uint64_t value = 0;
  std::from_chars(text.data() + from, text.data() + text.size(), value);
  return value;
}

base::NodeName node_name(std::uint32_t node) {
  return base::NodeName("node" + std::to_string(node));
}

wire::ImageInfo image_of(const World& world, ModelIndex model, base::ImageId id) {
  const ModelClass& kind = world.class_of(model);
  return {std::move(id),          base::ModelName(world.trace().models[model]),
          wire::DriverKind::criu, kind.state_bytes,
          kind.device_bytes(),    0};
}

}  // namespace

template <typename Command>
Devices ThawPolicy::devices_of(const Command& command) {
  const auto index = [](const base::DeviceId& id) { return static_cast<DeviceIndex>(number(id.str(), 4)); };  // behind "cuda" or "cpu-"
  Devices devices;
  for (const base::DeviceId& id : command.devices) devices.push_back(index(id));
  if (devices.empty()) devices.push_back(index(command.device));
  return devices;
}

ModelIndex ThawPolicy::model_of(const base::ImageId& image) const {
  const auto made = made_.find(image);
  return made != made_.end() ? made->second : static_cast<ModelIndex>(number(image.str(), kReady.size()));
}

wire::NodeHello ThawPolicy::hello(const World& world, std::uint32_t node, DeviceIndex first_device) const {
  const NodeShape& shape = world.shape_of(node);
  wire::NodeHello hello;
  hello.node = node_name(node);
  hello.domain = shape.domain;
  if (shape.device_kind == spec::DeviceKind::cpu) {
    hello.devices.push_back({base::DeviceId("cpu-" + std::to_string(first_device)), spec::DeviceKind::cpu, "simulated",
                             "", shape.device_bytes, shape.device_bytes});
    if (ways_.standby) hello.drivers.push_back({wire::DriverKind::freezer, spec::DeviceKind::cpu, true, false, ""});
    hello.host_cache = {shape.device_bytes, shape.device_bytes};
    return hello;
  }
  for (std::uint32_t n = 0; n < shape.devices; ++n)
    hello.devices.push_back({base::DeviceId("cuda" + std::to_string(first_device + n)), spec::DeviceKind::cuda,
                             "simulated", "", shape.device_bytes, shape.device_bytes});
  if (ways_.standby) hello.drivers.push_back({wire::DriverKind::cuda, spec::DeviceKind::cuda, true, false, "", false, true});
  if (ways_.images) hello.drivers.push_back({wire::DriverKind::criu, spec::DeviceKind::cuda, false, true, "", false, true});
  hello.host_budget_bytes = shape.standby_bytes;
  hello.image_budget_bytes = shape.image_bytes;
  hello.host_cache = {shape.host_bytes, shape.host_bytes};
  if (!lists_images(world)) return hello;
  std::uint64_t bytes = 0;
  for (ModelIndex model = 0; model < world.trace().models.size(); ++model) {
    wire::ImageInfo image =
        image_of(world, model, base::ImageId(std::string(kReady) + std::to_string(model) + "." + std::to_string(node)));
    if ((bytes += image.bytes) > shape.image_bytes) break;
    hello.images.push_back(std::move(image));
  }
  return hello;
}

spec::ModelSpec ThawPolicy::spec_of(const World& world, ModelIndex model) const {
  const ModelClass& kind = world.class_of(model);
  spec::ModelSpec spec;
  spec.name = base::ModelName(world.trace().models[model]);
  spec.source.path = std::string(kModels) + std::to_string(model);
  spec.resources.device = world.shape_of(0).device_kind;
  spec.resources.devices = kind.devices;
  spec.resources.device_memory_bytes = kind.device_bytes();
  spec.scaling.max_replicas = kind.max_replicas;
  spec.scaling.target_concurrency = kind.concurrency;
  spec.scaling.idle_timeout = kind.idle_timeout;
  spec.standby.mode = kind.standby;
  spec.priority = kind.priority;
  spec.start_deadline = std::chrono::hours(1);  // a slow disk is slow, not broken
  if (!ways_.standby) spec.standby.mode = spec::Mode::never;
  if (!ways_.images) spec.snapshot.mode = spec::Mode::never;
  return spec;
}

bool ThawPolicy::lists_images(const World& world) const {
  const std::uint64_t all = std::uint64_t{world.node_count()} * world.trace().models.size();
  return ways_.images && world.shape_of(0).device_kind != spec::DeviceKind::cpu && world.fleet().images_ready &&
         all <= kMaxListedImages;
}

void ThawPolicy::begin(World& world) {
  say_tenants(world);
  // Either order is right. A node looks for its images' models when it joins, and a model for its images on all nodes
  // when it is deployed: the one with less to look through goes second.
  if (lists_images(world)) {
    deploy(world);
    join(world);
  } else {
    join(world);
    deploy(world);
  }
  carry_out(world);
}

void ThawPolicy::say_tenants(World& world) {
  for (std::uint32_t n = 0; n < world.tenants().names().size(); ++n) {
    const TenantShape* const shape = world.tenants().shape_of(n);
    if (shape == nullptr) continue;
    control::TenantPolicy policy;
    policy.tenant = base::TenantName(shape->name);
    policy.weight = shape->weight;
    policy.max_devices = shape->max_devices;
    policy.max_device_seconds_per_day = shape->max_device_seconds_per_day;
    policy.max_priority = shape->max_priority;
    [[maybe_unused]] const base::Status said = scheduler_.set_tenant(policy, world.now(), actions_);
    assert(said.ok());  // the fleet's bounds are the scheduler's
  }
}

void ThawPolicy::deploy(World& world) {
  for (ModelIndex model = 0; model < world.trace().models.size(); ++model) {
    models_.emplace(world.trace().models[model], model);
    const spec::ModelSpec spec = spec_of(world, model);
    const std::string& owner = world.tenants().names()[world.tenants().of_model(model)];
    scheduler_.model_deployed(spec, world.now(), actions_, base::TenantName(owner));
    keep(world, [&](auto& book, auto /*now*/, auto& out) { book.model_deployed(spec, out); });
  }
}

void ThawPolicy::join(World& world) {
  DeviceIndex first_device = 0;
  for (std::uint32_t node = 0; node < world.node_count(); ++node) {
    const wire::NodeHello says = hello(world, node, first_device);
    if (world.shape_of(node).device_kind == spec::DeviceKind::cpu) caches_.emplace(node, says.host_cache);
    scheduler_.node_joined(says, world.now(), actions_);
    first_device += world.shape_of(node).devices;
  }
}

void ThawPolicy::arrived(World& world, RequestIndex request) {
  const ModelIndex model = world.trace().requests[request].model;
  for (auto& [node, cache] : caches_) cache.requested(base::ModelName(world.trace().models[model]), world.now());
  scheduler_.request_arrived(
      {base::RequestId(request + 1ULL), base::ModelName(world.trace().models[model]),
       base::TenantName(world.tenants().names()[world.tenants().of_request(request)]), 0, world.trace().requests[request].priority},
      world.now(), actions_);
  carry_out(world);
}

void ThawPolicy::first_token(World& world, RequestIndex request) {
  scheduler_.request_answering(base::RequestId(request + 1ULL), world.now());
}

void ThawPolicy::ended(World& world, RequestIndex request) {
  scheduler_.request_ended(base::RequestId(request + 1ULL), world.now(), actions_);
  carry_out(world);
}

void ThawPolicy::ready(World& world, base::InstanceId instance, wire::Way way) {
  if (way != wire::Way::wake && world.weights_there(instance))
    scheduler_.instance_weights({instance, world.loaded(instance)});
  scheduler_.instance_ready({instance, "", {}, way, "", 0, ways_.standby}, world.now(), actions_);
  keep(world, [&](auto& book, auto now, auto& out) { book.instance_ready(instance, false, now, out); });
  carry_out(world);
}

void ThawPolicy::weights_read(World& world, base::InstanceId instance) {
  scheduler_.instance_weights({instance, world.loaded(instance)});
}

void ThawPolicy::in_standby(World& world, base::InstanceId instance) {
  const ModelClass& kind = world.class_of(instances_.at(instance));
  if (caches_.empty())
    scheduler_.instance_standby({instance, wire::DriverKind::cuda, kind.kept_bytes(), 0, {}}, world.now(), actions_);
  else
    scheduler_.instance_standby({instance, wire::DriverKind::freezer, 0, world.rest_bytes(instance), {}}, world.now(),
                                actions_);
  carry_out(world);
  keep(world, [&](auto& book, auto now, auto& out) { book.instance_resting(instance, now, out); });
}

void ThawPolicy::imaged(World& world, base::InstanceId instance) {
  const Making made = making_.extract(instance).mapped();
  made_.emplace(made.image, made.model);
  scheduler_.snapshot_taken({instance, image_of(world, made.model, made.image), {}}, world.now(), actions_);
  carry_out(world);
}

void ThawPolicy::gone(World& world, base::InstanceId instance) {
  if (const auto cancelled = making_.extract(instance)) {
    const Making& made = cancelled.mapped();
    scheduler_.snapshot_failed({instance, made.image, base::ModelName(world.trace().models[made.model]), "cancelled"},
                               world.now(), actions_);
  }
  instances_.erase(instance);
  scheduler_.instance_gone({instance}, world.now(), actions_);
  carry_out(world);
  // After whatever has started in its place, and after the books of the device (controller/node_events.cpp).
  keep(world, [&](auto& book, auto now, auto& out) { book.instance_gone(instance, now, out); });
}

base::TimePoint ThawPolicy::next_tick() const {
  base::TimePoint next = scheduler_.next_tick();
  for (const auto& [node, cache] : caches_) next = std::min(next, cache.next_tick());
  return next;
}

void ThawPolicy::tick(World& world) {
  scheduler_.tick(world.now(), actions_);
  carry_out(world);
  keep(world, [&](auto& book, auto now, auto& out) { book.tick(now, out); });
}

template <typename Event>
void ThawPolicy::keep(World& world, const Event& event) {
  for (auto& [node, cache] : caches_) {
    event(cache, world.now(), cache_actions_);
    obey(world, node);
  }
}

/// What the node would answer comes at once.
void ThawPolicy::obey(World& world, std::uint32_t node) {
  while (!cache_actions_.empty()) {
    control::CacheActions now;
    now.swap(cache_actions_);
    for (const control::CacheAction& action : now) answer(world, node, action);
  }
}

void ThawPolicy::answer(World& world, std::uint32_t node, const control::CacheAction& action) {
  control::HostCache& cache = caches_.at(node);
  const auto* const look = std::get_if<wire::LookAtWeights>(&action);
  const auto* const evict = std::get_if<wire::EvictWeights>(&action);
  const std::string& source = look != nullptr ? look->source : evict->source;
  const auto model = static_cast<ModelIndex>(number(source, kModels.size()));
  const std::uint64_t before = world.cached_bytes(node, model);
  if (look != nullptr)
    return cache.weights_state({node_name(node), source, world.class_of(model).weights_bytes, before, true,
                                world.shape_of(node).disk_bytes_per_s},
                               world.now(), cache_actions_);
  world.keep_cached(node, model, evict->keep_bytes);
  const std::uint64_t left = world.cached_bytes(node, model);
  cache.weights_evicted({node_name(node), source, before - left, left, ""}, world.now(), cache_actions_);
}

/// Of host memory, which instances and weights share (controller/controller.cpp).
void ThawPolicy::update_reserved(World& world) {
  if (caches_.empty()) return;
  std::map<std::uint32_t, std::uint64_t> reserved_bytes;
  for (const control::DeviceView& device : scheduler_.devices())
    reserved_bytes[static_cast<std::uint32_t>(number(device.node.str(), 4))] += device.reserved_bytes;  // behind "node"
  for (auto& [node, cache] : caches_) {
    cache.reserved(reserved_bytes[node], world.now(), cache_actions_);
    obey(world, node);
  }
}

void ThawPolicy::carry_out(World& world) {
  struct Carrier {
    ThawPolicy& self;
    World& world;

    void operator()(const control::Start& a) const {
      const ModelIndex model = self.models_.at(a.command.model.name);
      self.instances_.emplace(a.command.instance, model);
      self.keep(world, [&](auto& book, auto now, auto& out) {
        book.instance_starting(a.command.instance, a.command.model, now, out);
      });
      world.start(a.command.instance, model, devices_of(a.command),
                  a.command.image.empty() ? wire::Way::start : wire::Way::restore);
    }
    void operator()(const control::Snapshot& a) const {
      const ModelIndex model = self.models_.at(a.command.model.name);
      self.instances_.emplace(a.command.instance, model);
      self.making_.emplace(a.command.instance, Making{model, a.command.image});
      world.make_image(a.command.instance, model, devices_of(a.command));
    }
    void operator()(const control::Drop& a) const {
      const ModelIndex model = self.model_of(a.command.image);
      world.drop_image(static_cast<std::uint32_t>(number(a.node.str(), 4)), model);  // behind "node"
      self.made_.erase(a.command.image);
      self.dropped_.push_back({a.command.image, world.class_of(model).state_bytes, "dropped"});
    }
    void operator()(const control::Stop& a) const { world.stop(a.instance); }
    void operator()(const control::Freeze& a) const { world.freeze(a.command.instance); }
    void operator()(const control::Wake& a) const { world.wake(a.command.instance); }
    void operator()(const control::Dispatch& a) const {
      world.dispatch(static_cast<RequestIndex>(a.request.value() - 1), a.instance, a.cold);
    }
    void operator()(const control::Refuse& a) const { world.refuse(static_cast<RequestIndex>(a.request.value() - 1)); }
  };
  while (!actions_.empty() || !dropped_.empty()) {
    control::Actions now;
    now.swap(actions_);
    for (const control::Action& action : now) std::visit(Carrier{*this, world}, action);
    for (const wire::ImageGone& gone : std::exchange(dropped_, {})) scheduler_.image_gone(gone, world.now(), actions_);
  }
  update_reserved(world);
}

}  // namespace thaw::sim
