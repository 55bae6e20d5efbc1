// Models and nodes come, change and go.
#include <algorithm>
#include <iterator>

#include "control/rollout.h"
#include "control/state.h"

namespace thaw::control {

namespace {

/// Of one of its devices.
std::uint64_t share(std::uint64_t bytes, std::uint32_t devices) { return bytes / devices + (bytes % devices > 0 ? 1 : 0); }

}  // namespace

void Scheduler::State::joined(const wire::NodeHello& hello, base::TimePoint now, Actions& out) {
  // A node that says hello again has lost everything it ran.
  Node& node = join(hello);
  std::vector<Instance*> lost;
  for (Device* d : node.devices) {
    std::copy_if(d->instances.begin(), d->instances.end(), std::back_inserter(lost), [&](const Instance* i) { return i->leads(*d); });
  }
  for (Device* d : node.devices) {
    while (!d->claims.empty()) {
      Model& m = *d->claims.back().model;
      for (const Device::Claim& c : d->claims) {
        if (c.wake != nullptr) c.wake->wake_claimed = false;
        if (c.model == &m) hold_for(*c.tenant, -claimed_devices(*d, c), now);
      }
      std::erase(m.claims, d);
      std::erase_if(d->claims, [&](const Device::Claim& c) { return c.model == &m; });
      touch(m);
    }
  }
  for (Instance* i : lost) gone(*i, now, out);
  renew(hello, node);
  for (auto at = failing.begin(); at != failing.end();) {
    const bool here = (*at)->failed_on != nullptr && (*at)->failed_on->owner == &node;
    if (here) (*at)->failed_on = nullptr;
    at = here ? failing.erase(at) : std::next(at);
  }
  for (Device* d : node.devices) {
    while (!d->pinned.empty()) unpin(*d->pinned.back());
  }
  equip(node, hello);
  changed_everywhere = true;
  room_changed = true;
  work(now, out);
}

Node& Scheduler::State::join(const wire::NodeHello& hello) {
  Node*& known = node_by_name[hello.node];
  if (known != nullptr) return *known;
  known = nodes.emplace_back(std::make_unique<Node>()).get();
  known->number = nodes.size();
  known->name = hello.node;
  return *known;
}

/// By number, which is the same for nodes that named the same one; one of its own for a node that named none.
std::uint32_t Scheduler::State::domain_of(const std::string& named, const Node& node) {
  std::uint32_t& number = domains[named.empty() ? "node " + node.name.str() : "domain " + named];
  if (number == 0) number = next_domain++;
  return number;
}

/// What the node's instances share, as it says now; the images that it has are all there are.
void Scheduler::State::renew(const wire::NodeHello& hello, Node& node) {
  node.drivers = hello.drivers;
  node.domain = domain_of(hello.domain, node);
  node.domain_name = hello.domain;
  node.host_budget = hello.host_budget_bytes;
  node.image_budget = hello.image_budget_bytes;
  node.cache_budget = std::max(hello.host_cache.max_bytes, hello.host_cache.shared_bytes);
  while (!node.images.empty()) forget_image(*node.images.begin()->second);
  for (const wire::ImageInfo& image : hello.images) adopt_image(image, node);
}

/// Its devices are those that it names.
void Scheduler::State::equip(Node& node, const wire::NodeHello& hello) {
  const auto named = [&](const Device& d) -> const wire::DeviceInfo* {
    const auto found = std::find_if(hello.devices.begin(), hello.devices.end(), [&](const wire::DeviceInfo& info) { return info.id == d.info.id; });
    return found == hello.devices.end() ? nullptr : &*found;
  };
  bool lost_any = false;
  for (Device* d : node.devices) {
    shortlist.remove(*d);
    if (const wire::DeviceInfo* const info = named(*d)) {
      d->info = *info;
      shortlist.add(*d);
      continue;
    }
    lost_any = true;
    std::erase(changed, d);
    std::erase(freed, d);
    d->owner = nullptr;
  }
  std::erase_if(node.devices, [](const Device* d) { return d->owner == nullptr; });
  if (lost_any) {
    std::erase_if(everywhere, [](const Device* d) { return d->owner == nullptr; });
    std::erase_if(devices, [](const std::unique_ptr<Device>& d) { return d->owner == nullptr; });
  }
  for (const wire::DeviceInfo& info : hello.devices) {
    if (std::any_of(node.devices.begin(), node.devices.end(), [&](const Device* d) { return d->info.id == info.id; })) continue;
    Device& d = *devices.emplace_back(std::make_unique<Device>());
    d.owner = &node;
    d.node = hello.node;
    d.info = info;
    node.devices.push_back(&d);
    everywhere.push_back(&d);
    shortlist.add(d);
  }
}

void Scheduler::State::deployed(const spec::ModelSpec& spec, const base::TenantName& owner, base::TimePoint now, Actions& out) {
  std::unique_ptr<Model>& place = models[spec.name];
  const bool fresh = place == nullptr;
  if (fresh) {
    place = std::make_unique<Model>();
    place->timer.owner = next_timer++;
    place->timer.model = place.get();
  }
  Model& m = *place;
  const bool replaced = !fresh && engine_differs(m.spec, spec);
  if (replaced) {
    drop_claims(m, now, out);
    leave_waiters(m);
    end_instances(m, Instance::Drain::replaced, "replaced", now, out);
    drop_images(m, "its model is another one by now", out);
    m.costs = {};
    m.standby_device_bytes.reset();
    m.standby_host_bytes.reset();
    m.rest_failures = m.snapshot_tries = 0;
    m.image_bytes = 0;
    m.rests_in_standby = m.restores_preferred = false;
    m.rests.clear();
  }
  if (fresh) adopt_orphans(m, spec.name);
  if (fresh || peak_window(m.spec.scaling) != peak_window(spec.scaling)) m.peak.resize(peak_window(spec.scaling));
  const bool loads_otherwise = m.spec.resources.loading_memory_bytes != spec.resources.loading_memory_bytes;
  m.spec = spec;
  m.owner = &tenant(owner);
  if (spec.scaling.min_replicas > 0) keepers.insert(&m);
  else keepers.erase(&m);
  think_of_keeping(m, now);
  m.bytes = share(spec.resources.device_memory_bytes.value_or(0), spec.resources.devices);
  if (fresh || replaced || loads_otherwise) m.loading_bytes = share(spec.resources.loading_memory_bytes.value_or(0), spec.resources.devices);
  m.paused = false;
  succeeded(m);  // whoever deploys has perhaps mended it
  changed_everywhere = room_changed = true;  // its minReplicas decide what others can have
  touch(m);
  work(now, out);
}

void Scheduler::State::adopt_orphans(Model& m, const base::ModelName& name) {
  const auto found = orphans.find(name);
  if (found == orphans.end()) return;
  std::vector<Image*> its = std::move(found->second);
  orphans.erase(found);
  std::sort(its.begin(), its.end(), [](const Image* a, const Image* b) {
    return a->node != b->node ? a->node->number < b->node->number : a->info.image < b->info.image;
  });
  for (Image* image : its) {
    if (image->dropping) {
      orphans[name].push_back(image);
      continue;
    }
    image->model = &m;
    m.images.push_back(image);
    m.image_bytes = image->info.bytes;
  }
}

/// Takes every replica out of service: a starting one is stopped, a ready one ends its requests first (unless killed).
void Scheduler::State::end_instances(Model& m, Instance::Drain why, const std::string& reason, base::TimePoint now, Actions& out) {
  const std::vector<Instance*> all = m.instances;
  for (Instance* i : all) drain_instance(*i, why, reason, now, out);
}

void Scheduler::State::removed(const base::ModelName& name, base::TimePoint now, Actions& out) {
  const auto found = models.find(name);
  if (found == models.end()) return;
  Model& m = *found->second;
  m.removed = true;
  refuse_all(m, Refuse::Why::model_removed, "model " + m.name() + " was removed", {}, out);
  drop_claims(m, now, out);
  leave_waiters(m);
  end_instances(m, Instance::Drain::removed, "removed", now, out);
  drop_images(m, "its model was removed", out);
  timers.disarm(m.timer);
  for (const auto& node : nodes) node->warm.forget(m);
  failing.erase(&m);
  keepers.erase(&m);
  retired.push_back(std::move(found->second));
  models.erase(found);
  work(now, out);
}

void Scheduler::State::stopped(const base::ModelName& name, bool kill, base::TimePoint now, Actions& out) {
  const auto found = models.find(name);
  if (found == models.end()) return;
  Model& m = *found->second;
  m.paused = true;
  m.summoned = false;
  if (kill) {
    refuse_all(m, Refuse::Why::draining, "model " + m.name() + " was stopped by an operator; the next request starts it again",
               base::Seconds(1), out);
  }
  drop_claims(m, now, out);
  leave_waiters(m);
  end_instances(m, Instance::Drain::asked, "stopped by an operator", now, out);
  if (kill) {
    for (Instance* i : std::vector<Instance*>(m.instances)) {
      if (i->phase != Phase::ready) continue;
      i->killed = true;
      stop(*i, now, out);
    }
  }
  touch(m);
  work(now, out);
}

void Scheduler::State::drain(base::TimePoint now, Actions& out) {
  draining = true;
  for (Model* m : models_in_order()) {
    refuse_all(*m, Refuse::Why::draining, "the server is shutting down; retry in a moment", base::Seconds(5), out);
    drop_claims(*m, now, out);
    leave_waiters(*m);
    touch(*m);
  }
  work(now, out);
}

}  // namespace thaw::control
