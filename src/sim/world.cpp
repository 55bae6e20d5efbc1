// The run of time: events, arrivals, answers.
#include "sim/world.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <map>
#include <utility>

#include "sim/costs.h"

namespace thaw::sim {

World::World(const Fleet& fleet, const Trace& trace, Policy& policy)
    : fleet_(fleet), trace_(trace), policy_(policy), running_(trace.requests.size()), meter_(trace.span()), tenants_(fleet, trace),
      held_by_tenant_s_(tenants_.names().size(), 0.0) {
  classes_.reserve(trace.models.size());
  for (std::size_t m = 0; m < trace.models.size(); ++m)
    classes_.push_back(&fleet.class_of(static_cast<std::uint32_t>(m), trace.models[m]));
  std::vector<double> disks, buses;
  for (const NodeShape& shape : fleet.nodes) {
    for (std::uint32_t n = 0; n < shape.count; ++n) {
      const auto node = static_cast<std::uint32_t>(nodes_.size());
      nodes_.push_back({&shape, 0, 0, 0, {}, PageCache(shape.host_bytes), HostMemory(shape.memory_return_bytes), {}});
      disks.push_back(static_cast<double>(shape.disk_bytes_per_s));
      for (std::uint32_t d = 0; d < shape.devices; ++d) {
        devices_.push_back({node, shape.device_bytes, 0, {}, {}});
        if (shape.device_kind == spec::DeviceKind::cpu)
          devices_.back().compute.be_cpu({fleet.contended_rate, fleet.rising_rate.value_or(fleet.contended_rate),
                                          fleet.fresh_share / (1 - fleet.fresh_share)});
        buses.push_back(static_cast<double>(shape.bus_bytes_per_s));
      }
    }
  }
  links_.reserve(disks.size() + buses.size());
  for (const double rate : disks) links_.emplace_back(rate);
  for (const double rate : buses) links_.emplace_back(rate);
  planned_bytes_.assign(links_.size(), 0.0);
  outcome_.devices = device_count();
  outcome_.delay_s.assign(trace.requests.size(), Outcome::kRefused);
  outcome_.served.assign(trace.requests.size(), Served::not_served);
}

// --- planning

void World::plan_link(std::uint64_t link) {
  const base::TimePoint at = links_[link].next();
  if (at != base::never()) events_.push({at, planned_++, Event::Kind::link, link, links_[link].generation()});
}

void World::plan_compute(DeviceIndex device) {
  const base::TimePoint at = devices_[device].compute.next();
  if (at != base::never())
    events_.push({at, planned_++, Event::Kind::compute, device, devices_[device].compute.generation()});
}

void World::plan_instance(base::InstanceId id, const Instance& instance, base::Duration after) {
  events_.push({now_ + after, planned_++, Event::Kind::instance, id.value(), instance.way_number});
}

// --- the loop

/// One event, arrival or tick at or before `until`; false: there is none. At the same time what was going on comes
/// first, then arrivals, then the policy's own thoughts.
bool World::step(base::TimePoint until) {
  const auto stale = [&](const Event& e) {
    switch (e.kind) {
      case Event::Kind::link:
        return links_[e.what].generation() != e.generation;
      case Event::Kind::compute:
        return devices_[e.what].compute.generation() != e.generation;
      case Event::Kind::instance:
        break;
    }
    const auto found = instances_.find(base::InstanceId(e.what));
    return found == instances_.end() || found->second.way_number != e.generation;
  };
  while (!events_.empty() && stale(events_.top())) events_.pop();

  const base::TimePoint event = events_.empty() ? base::never() : events_.top().at;
  const base::TimePoint arrival =
      next_arrival_ < trace_.requests.size() ? base::TimePoint(trace_.requests[next_arrival_].at) : base::never();
  const base::TimePoint tick = policy_.next_tick();
  const base::TimePoint soonest = std::max(std::min({event, arrival, tick}), now_);
  if (soonest > until || soonest == base::never()) return false;
  now_ = soonest;
  ++outcome_.events;
  if (event <= now_) {
    const Event e = events_.top();
    events_.pop();
    switch (e.kind) {
      case Event::Kind::link:
        link_done(e.what);
        break;
      case Event::Kind::compute:
        compute_due(static_cast<DeviceIndex>(e.what));
        break;
      case Event::Kind::instance:
        fixed_done(base::InstanceId(e.what));
        break;
    }
  } else if (arrival <= now_) {
    arrive();
  } else {
    policy_.tick(*this);
  }
  return true;
}

Outcome World::run() {
  assert(!begun_);
  begun_ = true;
  policy_.begin(*this);
  // Longer than any queue's patience: what is open then is lost, and said to be.
  const base::TimePoint end = base::TimePoint(trace_.span() + std::chrono::hours(24));
  while ((next_arrival_ < trace_.requests.size() || open_ > 0) && step(end)) {
  }
  if (open_ > 0) violation(std::to_string(open_) + " requests were neither answered nor refused");
  meter_.read(now_, outcome_);
  count_all();
  outcome_.span = now_.time_since_epoch();
  for (const Device& device : devices_) outcome_.busy_device_s += device.compute.busy_s();
  summarise(outcome_);
  summarise_groups(tenants_, held_by_tenant_s_, outcome_);
  return outcome_;
}

bool World::run_until_quiet(base::Duration most) {
  const base::TimePoint end = now_ + most;
  while (step(end)) {
  }
  return now_ < end && policy_.next_tick() == base::never() && events_.empty();
}

// --- requests

void World::arrive() {
  const auto request = static_cast<RequestIndex>(next_arrival_++);
  ++open_;
  policy_.arrived(*this, request);
}

void World::dispatch(RequestIndex request, base::InstanceId id, bool cold) {
  Running& running = running_[request];
  Instance* const instance = find(id);
  const TraceRequest& asked = trace_.requests[request];
  if (running.answered) return violation("a request was answered twice");
  running.answered = true;
  running.instance = id;
  if (instance == nullptr || instance->state != State::ready || instance->model != asked.model) {
    ++outcome_.refused;
    --open_;
    return violation("a request was sent to an instance that is not ready for it");
  }
  count(*instance);
  const std::uint32_t tenant = tenants_.of_request(request);
  held_by_tenant_s_[tenant] += std::exchange(instance->unasked_s, 0);
  instance->tenant = tenant;
  if (cold) ++outcome_.cold;
  outcome_.served[request] = !cold                                 ? Served::ready
                             : instance->way == wire::Way::wake    ? Served::wake
                             : instance->way == wire::Way::restore ? Served::restore
                                                                   : Served::start;
  instance->requests.push_back(request);
  if (on_cpu(*instance)) {
    const std::uint64_t tokens = std::uint64_t{asked.input_tokens} + asked.output_tokens;
    instance->longest_tokens = std::max(instance->longest_tokens, tokens);
    own(*instance, class_of(instance->model).own_bytes(instance->longest_tokens));
  }
  Device& device = devices_[instance->device];
  const NodeShape& shape = *nodes_[device.node].shape;
  DeviceCompute::Work work;
  if (trace_.durations) {
    work.prompt_s = base::to_s(asked.duration);
    first_token(request);
  } else {
    work.prompt_s = prompt_s(fleet_, shape, class_of(asked.model), asked.input_tokens);
    work.tokens = asked.output_tokens > 1 ? asked.output_tokens - 1 : 0;
    work.prompt_s += base::to_s(std::exchange(instance->first_answer, base::Duration::zero()));
    if (!weights_there(id)) instance->held_up.push_back({request, std::exchange(work.tokens, 0), false});
  }
  device.compute.begin(instance->slot, request, work, now_);
  plan_compute(instance->device);
}

/// A request that began before all weights were there is answered once they are: the engine computes as they come in.
/// False: it is none of those.
bool World::prompt_done(Instance& instance, RequestIndex request) {
  const auto held = std::find_if(instance.held_up.begin(), instance.held_up.end(),
                                 [&](const HeldUp& one) { return one.request == request && !one.prompt_done; });
  if (held == instance.held_up.end()) return false;
  if (!instance.disk_done) {
    held->prompt_done = true;
    return true;
  }
  const HeldUp there = *held;
  instance.held_up.erase(held);
  go_on(instance, there);
  return true;
}

void World::go_on(Instance& instance, const HeldUp& held) {
  first_token(held.request);
  policy_.first_token(*this, held.request);
  if (held.tokens == 0) return request_ended(held.request);
  devices_[instance.device].compute.decode(instance.slot, held.request, held.tokens, now_);
  plan_compute(instance.device);
}

void World::refuse(RequestIndex request) {
  Running& running = running_[request];
  if (running.answered) return violation("a request was answered twice");
  running.answered = true;
  ++outcome_.refused;
  --open_;
}

void World::compute_due(DeviceIndex index) {
  Device& device = devices_[index];
  const DeviceCompute::Event event = device.compute.pop(now_);
  if (event.kind == DeviceCompute::Event::Kind::way_ended) {
    plan_compute(index);
    const base::InstanceId id = device.by_slot[event.slot];
    return settle(id, *find(id));
  }
  if (cpu(device.node)) device.compute.mature(event.slot, now_);  // its first answer has begun
  plan_compute(index);
  if (cpu(device.node) && prompt_done(*find(device.by_slot[event.slot]), event.request)) return;
  if (event.kind == DeviceCompute::Event::Kind::first_token) {
    first_token(event.request);
    policy_.first_token(*this, event.request);
  } else {
    if (!running_[event.request].first_token) first_token(event.request);
    request_ended(event.request);
  }
}

void World::first_token(RequestIndex request) {
  running_[request].first_token = true;
  const base::Duration delay = now_.time_since_epoch() - trace_.requests[request].at + fleet_.costs.request;
  outcome_.delay_s[request] = static_cast<float>(base::to_s(delay));
}

void World::request_ended(RequestIndex request) {
  Instance* const instance = find(running_[request].instance);
  assert(instance != nullptr);
  count(*instance);
  auto& requests = instance->requests;
  requests.erase(std::find(requests.begin(), requests.end(), request));
  ++outcome_.answered;
  --open_;
  policy_.ended(*this, request);
}

/// What it held since the last time, by what it did; before anything of that changes.
void World::count(Instance& instance) {
  double held_s = 0;
  const double passed_s = base::to_s(now_ - std::exchange(instance.counted_until, now_));
  for (const DeviceIndex d : instance.devices)
    held_s += passed_s * static_cast<double>(instance.device_held) / static_cast<double>(devices_[d].budget_bytes);
  switch (instance.state) {
    case State::rising:
    case State::imaging:
    case State::waking:
      outcome_.held_by.rising += held_s;
      break;
    case State::ready:
      (instance.requests.empty() ? outcome_.held_by.idle : outcome_.held_by.answering) += held_s;
      break;
    case State::standby:
      outcome_.held_by.idle += held_s;
      break;
    case State::freezing:
    case State::stopping:
      outcome_.held_by.falling += held_s;
      break;
  }
  (instance.tenant ? held_by_tenant_s_[*instance.tenant] : instance.unasked_s) += held_s;
}

/// Also of those that nobody ever asked anything: their model's owner's.
void World::count_all() {
  std::map<base::InstanceId, Instance*> in_order;  // sums of floating point numbers depend on it
  for (auto& [id, instance] : instances_) in_order.emplace(id, &instance);
  for (auto& [id, instance] : in_order) {
    count(*instance);
    held_by_tenant_s_[tenants_.of_model(instance->model)] += std::exchange(instance->unasked_s, 0);
  }
}

void World::violation(const std::string& what) {
  if (++outcome_.violated <= Outcome::kMaxViolations)
    outcome_.violations.push_back("at " + std::to_string(base::to_s(now_.time_since_epoch())) + " s: " + what);
}

}  // namespace thaw::sim
