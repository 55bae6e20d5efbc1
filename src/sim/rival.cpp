#include "sim/rival.h"

#include <algorithm>
#include <cassert>
#include <limits>
#include <utility>

#include "sim/bound.h"

namespace thaw::sim {

// --- requests

void RivalPolicy::begin(World& world) {
  models_.resize(world.trace().models.size());
  devices_.resize(world.device_count());
  for (DeviceIndex d = 0; d < devices_.size(); ++d)
    devices_[d].free_bytes = world.shape_of(world.node_of(d)).device_bytes;
  if (rules_.replicas != RivalRules::Replicas::fixed) return;
  const std::vector<std::uint32_t> peaks = peak_concurrency(world.fleet(), world.trace());
  for (ModelIndex model = 0; model < models_.size(); ++model) {
    const std::uint32_t slots = world.class_of(model).concurrency;
    for (std::uint32_t n = 0; n < std::max((peaks[model] + slots - 1) / slots, 1U); ++n) place_for_ever(world, model);
  }
}

void RivalPolicy::place_for_ever(World& world, ModelIndex model) {
  const auto choice = choose(world, model);
  if (!choice || !choice->victims.empty())
    return;  // the fleet is too small: its requests wait for others' slots, or are refused
  const base::InstanceId id(++last_id_);
  instances_[id] = {model, choice->devices, false, false, 0, world.now(), world.now(), {}};
  for (const DeviceIndex device : choice->devices) {
    devices_[device].free_bytes -= world.class_of(model).share_bytes();
    devices_[device].instances.insert(id);
  }
  ++models_[model].rising;
  world.start_ready(id, model, choice->devices);
}

void RivalPolicy::arrived(World& world, RequestIndex request) {
  const ModelIndex model = world.trace().requests[request].model;
  Model& m = models_[model];
  const bool never = rules_.replicas == RivalRules::Replicas::fixed && m.ready.empty();
  if (never || m.queue.size() >= rules_.max_queue) return world.refuse(request);
  m.queue.push_back({request, world.now(), m.ready.empty()});
  if (m.queue.size() == 1) expires_.emplace(world.now() + rules_.queue_timeout, model);
  note(world, model);
  serve(world, model);
  scale(world, model);
}

void RivalPolicy::ended(World& world, RequestIndex request) {
  const base::InstanceId id = serving_.extract(request).mapped();
  Instance& instance = instances_.at(id);
  --instance.in_flight;
  --models_[instance.model].in_flight;
  note(world, instance.model);
  serve(world, instance.model);
  if (instances_.at(id).in_flight == 0) became_idle(world, id);
}

/// Who waits goes to the replica with the fewest requests, as long as one has a slot.
void RivalPolicy::serve(World& world, ModelIndex model) {
  Model& m = models_[model];
  const std::uint32_t slots = world.class_of(model).concurrency;
  while (!m.queue.empty()) {
    base::InstanceId least;
    std::uint32_t fewest = slots;
    for (const base::InstanceId id : m.ready) {
      const std::uint32_t busy = instances_.at(id).in_flight;
      if (busy >= fewest) continue;
      fewest = busy;
      least = id;
    }
    if (!least) return;
    const Waiting first = m.queue.front();
    m.queue.pop_front();
    expires_.erase({first.since + rules_.queue_timeout, model});
    if (!m.queue.empty()) expires_.emplace(m.queue.front().since + rules_.queue_timeout, model);
    Instance& instance = instances_.at(least);
    if (instance.in_flight++ == 0) idle_out_.erase({instance.idle_since + instance.loading, least});
    ++m.in_flight;
    serving_.emplace(first.request, least);
    world.dispatch(first.request, least, first.cold);
  }
}

void RivalPolicy::expire(World& world) {
  while (!expires_.empty() && expires_.begin()->first <= world.now()) {
    const ModelIndex model = expires_.begin()->second;
    Model& m = models_[model];
    expires_.erase(expires_.begin());
    world.refuse(m.queue.front().request);
    m.queue.pop_front();
    if (!m.queue.empty()) expires_.emplace(m.queue.front().since + rules_.queue_timeout, model);
    note(world, model);
  }
}

// --- how many

void RivalPolicy::note(World& world, ModelIndex model) {
  if (rules_.replicas != RivalRules::Replicas::windows) return;
  Model& m = models_[model];
  if (m.windows == nullptr) m.windows = std::make_unique<KpaWindows>();
  m.windows->note(world.now(), static_cast<std::uint32_t>(m.in_flight + m.queue.size()));
  scaled_.insert(model);
  if (next_look_ == base::never()) next_look_ = world.now() + KpaWindows::kLook;
}

std::uint32_t RivalPolicy::desired(const World& world, ModelIndex model) const {
  const Model& m = models_[model];
  const auto load = static_cast<std::uint32_t>(m.in_flight + m.queue.size());
  switch (rules_.replicas) {
    case RivalRules::Replicas::fixed:
      return 0;
    case RivalRules::Replicas::one:
      return load > 0 ? 1 : 0;
    case RivalRules::Replicas::demand: {
      const std::uint32_t slots = world.class_of(model).concurrency;
      return std::min((load + slots - 1) / slots, rules_.max_replicas);
    }
    case RivalRules::Replicas::windows:
      break;
  }
  return std::min(std::max(m.wanted, m.queue.empty() ? 0U : 1U),
                  rules_.max_replicas);  // the first one at once: the activator sees to it
}

void RivalPolicy::scale(World& world, ModelIndex model) {
  Model& m = models_[model];
  while (m.ready.size() + m.rising < desired(world, model)) {
    if (!place(world, model)) return wait_for_room(model);
  }
}

void RivalPolicy::look_at_windows(World& world) {
  next_look_ = world.now() + KpaWindows::kLook;
  const std::vector<ModelIndex> all(scaled_.begin(), scaled_.end());
  for (const ModelIndex model : all) {
    Model& m = models_[model];
    m.wanted =
        m.windows->look(world.now(), static_cast<std::uint32_t>(m.ready.size()), world.class_of(model).concurrency);
    while (m.ready.size() > desired(world, model)) {
      const auto idle = std::find_if(m.ready.rbegin(), m.ready.rend(),
                                     [&](base::InstanceId id) { return instances_.at(id).in_flight == 0; });
      if (idle == m.ready.rend()) break;
      stop(world, *idle);
    }
    if (m.windows->empty() && m.ready.empty() && m.rising == 0 && m.queue.empty())
      scaled_.erase(model);
    else
      scale(world, model);
  }
  if (scaled_.empty()) next_look_ = base::never();
}

void RivalPolicy::became_idle(World& world, base::InstanceId id) {
  Instance& instance = instances_.at(id);
  instance.idle_since = world.now();
  if (rules_.replicas == RivalRules::Replicas::fixed || rules_.replicas == RivalRules::Replicas::windows) {
    place_waiting(world);
    return;
  }
  if (rules_.keep_alive) instance.loading = *rules_.keep_alive;
  if (rules_.keep_alive || rules_.keep_alive_as_loading) idle_out_.emplace(instance.idle_since + instance.loading, id);
  place_waiting(world);
}

void RivalPolicy::stop_idle(World& world) {
  while (!idle_out_.empty() && idle_out_.begin()->first <= world.now()) {
    const base::InstanceId id = idle_out_.begin()->second;
    idle_out_.erase(idle_out_.begin());
    stop(world, id);
  }
}

// --- where

/// The longest idle instances of a device that make room for so many bytes; absent when there are not enough.
std::optional<std::vector<base::InstanceId>> RivalPolicy::victims_on(const World& world, DeviceIndex device,
                                                                     std::uint64_t bytes) const {
  const Device& d = devices_[device];
  std::vector<std::pair<base::TimePoint, base::InstanceId>> idle;
  for (const base::InstanceId id : d.instances) {
    const Instance& instance = instances_.at(id);
    if (instance.ready && !instance.stopping && instance.in_flight == 0) idle.emplace_back(instance.idle_since, id);
  }
  std::sort(idle.begin(), idle.end());
  std::vector<base::InstanceId> victims;
  std::uint64_t room = d.free_bytes + d.leaving_bytes;
  const std::size_t busy = d.instances.size() - idle.size();
  if (rules_.alone && (busy > 0 || !d.promised.empty())) return std::nullopt;
  for (const auto& [since, id] : idle) {
    if (room >= bytes && !rules_.alone) break;
    victims.push_back(id);
    room += world.class_of(instances_.at(id).model).share_bytes();
  }
  if (room < bytes) return std::nullopt;
  return victims;
}

/// What it takes to have the model's share on a device; absent: it cannot be had there. The least score is the best.
std::optional<RivalPolicy::Scored> RivalPolicy::look_at(const World& world, ModelIndex model, DeviceIndex device, bool evict) const {
  const std::uint64_t bytes = world.class_of(model).share_bytes();
  const Device& d = devices_[device];
  Scored it{device, 0, {}};
  if (!evict) {
    if (d.free_bytes < bytes || (rules_.alone && !d.instances.empty())) return std::nullopt;
    if (rules_.place == RivalRules::Place::most_free) it.score = -static_cast<double>(d.free_bytes);
  } else {
    auto victims = victims_on(world, device, bytes);
    if (!victims) return std::nullopt;
    it.victims = std::move(*victims);
    // Where the youngest of those that must go was idle for longest; or where it is up first.
    for (const base::InstanceId id : it.victims)
      it.score = std::max(it.score, base::to_s(instances_.at(id).idle_since.time_since_epoch()));
  }
  if (rules_.place == RivalRules::Place::fastest) it.score = base::to_s(world.estimate(model, {device}));
  if (rules_.place == RivalRules::Place::first_fit) it.score = 0;
  return it;
}

/// As many devices of one machine as the model takes, the best ones; of machines the one whose last such device is the best.
std::optional<RivalPolicy::Choice> RivalPolicy::best(const World& world, ModelIndex model, bool evict) const {
  const std::uint32_t wanted = world.class_of(model).devices;
  std::optional<Choice> best;
  double best_score = std::numeric_limits<double>::infinity();
  std::vector<Scored> here;
  for (DeviceIndex device = 0; device < devices_.size(); ++device) {
    if (auto it = look_at(world, model, device, evict)) here.push_back(std::move(*it));
    const bool last_of_node = device + 1 == devices_.size() || world.node_of(device + 1) != world.node_of(device);
    const bool enough = here.size() >= wanted;
    if (!last_of_node && !(wanted == 1 && enough)) continue;
    if (enough) {
      std::stable_sort(here.begin(), here.end(), [](const Scored& a, const Scored& b) { return a.score < b.score; });
      here.resize(wanted);
      if (here.back().score < best_score) {
        best_score = here.back().score;
        best.emplace();
        for (const Scored& it : here) {
          best->devices.push_back(it.device);
          for (const base::InstanceId id : it.victims) {
            if (std::find(best->victims.begin(), best->victims.end(), id) == best->victims.end()) best->victims.push_back(id);
          }
        }
        if (rules_.place == RivalRules::Place::first_fit) return best;
      }
    }
    here.clear();
  }
  return best;
}

std::optional<RivalPolicy::Choice> RivalPolicy::choose(const World& world, ModelIndex model) const {
  auto free = best(world, model, false);
  if (free || !rules_.evicts) return free;
  return best(world, model, true);
}

bool RivalPolicy::place(World& world, ModelIndex model) {
  const auto choice = choose(world, model);
  if (!choice) return false;
  const std::uint64_t bytes = world.class_of(model).share_bytes();
  ++models_[model].rising;
  for (const base::InstanceId id : choice->victims) stop(world, id);
  const bool at_once = std::all_of(choice->devices.begin(), choice->devices.end(), [&](DeviceIndex device) {
    const Device& d = devices_[device];
    return d.promised.empty() && d.free_bytes >= bytes && (!rules_.alone || d.instances.empty());
  });
  if (at_once) {
    begin_replica(world, model, choice->devices);
    return true;
  }
  // What is free and what is leaving is promised away, so that nobody takes it in between.
  promises_[++last_promise_] = {model, choice->devices};
  for (const DeviceIndex device : choice->devices) {
    Device& d = devices_[device];
    const std::uint64_t of_free = std::min(d.free_bytes, bytes);
    d.free_bytes -= of_free;
    d.leaving_bytes -= bytes - of_free;
    d.promised_bytes += of_free;
    d.promised.push_back(last_promise_);
    d.owed_bytes += bytes - of_free;
  }
  return true;
}

void RivalPolicy::begin_replica(World& world, ModelIndex model, const Devices& devices) {
  const base::InstanceId id(++last_id_);
  instances_[id] = {model, devices, false, false, 0, world.now(), world.now(), {}};
  for (const DeviceIndex device : devices) {
    devices_[device].free_bytes -= world.class_of(model).share_bytes();
    devices_[device].instances.insert(id);
  }
  const bool image = world.has_image(world.node_of(devices.front()), model);
  world.start(id, model, devices, image ? wire::Way::restore : wire::Way::start);
}

void RivalPolicy::ready(World& world, base::InstanceId id, wire::Way /*way*/) {
  Instance& instance = instances_.at(id);
  instance.ready = true;
  instance.loading = world.now() - instance.begun;
  Model& m = models_[instance.model];
  --m.rising;
  m.ready.push_back(id);
  const ModelIndex model = instance.model;
  serve(world, model);
  if (instances_.at(id).in_flight == 0) became_idle(world, id);
}

void RivalPolicy::stop(World& world, base::InstanceId id) {
  Instance& instance = instances_.at(id);
  assert(instance.ready && !instance.stopping && instance.in_flight == 0);
  instance.stopping = true;
  std::erase(models_[instance.model].ready, id);
  idle_out_.erase({instance.idle_since + instance.loading, id});
  for (const DeviceIndex device : instance.devices) devices_[device].leaving_bytes += world.class_of(instance.model).share_bytes();
  world.stop(id);
}

void RivalPolicy::gone(World& world, base::InstanceId id) {
  const Instance instance = instances_.extract(id).mapped();
  for (const DeviceIndex device : instance.devices) {
    Device& d = devices_[device];
    d.instances.erase(id);
    std::uint64_t bytes = world.class_of(instance.model).share_bytes();
    const std::uint64_t to_promises = std::min(d.owed_bytes, bytes);
    d.owed_bytes -= to_promises;
    d.promised_bytes += to_promises;
    bytes -= to_promises;
    d.free_bytes += bytes;
    d.leaving_bytes -= bytes;
  }
  for (const DeviceIndex device : instance.devices) fund(world, device);
  place_waiting(world);
}

/// Begins what is promised first, as long as its bytes are there: of a gang on all of its devices.
void RivalPolicy::fund(World& world, DeviceIndex device) {
  while (!devices_[device].promised.empty()) {
    const std::uint64_t number = devices_[device].promised.front();
    const Promise promise = promises_.at(number);
    const std::uint64_t bytes = world.class_of(promise.model).share_bytes();
    const bool there = std::all_of(promise.devices.begin(), promise.devices.end(), [&](DeviceIndex each) {
      const Device& d = devices_[each];
      return d.promised.front() == number && d.promised_bytes >= bytes && (!rules_.alone || d.instances.empty());
    });
    if (!there) return;
    for (const DeviceIndex each : promise.devices) {
      Device& d = devices_[each];
      d.promised_bytes -= bytes;
      d.free_bytes += bytes;
      d.promised.pop_front();
    }
    promises_.erase(number);
    begin_replica(world, promise.model, promise.devices);
  }
}

void RivalPolicy::wait_for_room(ModelIndex model) {
  if (std::exchange(models_[model].waits, true)) return;
  waiting_.push_back(model);
}

void RivalPolicy::place_waiting(World& world) {
  for (std::size_t n = waiting_.size(); n > 0; --n) {
    const ModelIndex model = waiting_.front();
    waiting_.pop_front();
    models_[model].waits = false;
    scale(world, model);
    if (models_[model].waits && waiting_.back() == model) {  // still no room: it keeps its place
      waiting_.pop_back();
      waiting_.push_front(model);
      return;
    }
  }
}

base::TimePoint RivalPolicy::next_tick() const {
  base::TimePoint at = next_look_;
  if (!idle_out_.empty()) at = std::min(at, idle_out_.begin()->first);
  if (!expires_.empty()) at = std::min(at, expires_.begin()->first);
  return at;
}

void RivalPolicy::tick(World& world) {
  expire(world);
  stop_idle(world);
  if (next_look_ <= world.now()) look_at_windows(world);
}

}  // namespace thaw::sim
