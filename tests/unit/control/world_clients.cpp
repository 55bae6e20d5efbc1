// What clients, the gateway and operators do in the simulated world.
#include "unit/control/world.h"

namespace thaw::control::test {

void World::arrive() {
  if (models_.empty()) return;
  auto model = models_.begin();
  std::advance(model, static_cast<std::ptrdiff_t>(dice_.below(models_.size())));
  const base::RequestId id{next_request_++};
  Request& r = requests_[id];
  r.model = model->first;
  r.deadline = now_ + model->second.scaling.queue.timeout;
  const base::TenantName tenant("tenant" + std::to_string(dice_.below(3)));
  const base::ModelName name = model->first;
  if (dice_.chance(5)) {
    at(dice_.between(base::Millis(0), base::Millis(3000)), [this, id] {  // the client goes away, wherever its request is
      if (requests_.count(id) == 0) return;
      forget(id);
      call("end " + text(id), [&](Actions& out) { scheduler_.request_ended(id, now_, out); });
    });
  }
  std::optional<spec::Priority> priority;
  if (mix_.shares && dice_.chance(30)) priority = spec::Priority(dice_.below(3));
  const bool explain = mix_.explains && scheduler_.next_tick() > now_;  // what is due anyway would come first
  const Explanation e = explain ? scheduler_.explain(name, tenant, priority, now_) : Explanation{};
  call("request " + text(id) + " " + name.str(), [&](Actions& out) {
    scheduler_.request_arrived({id, name, tenant, 0, priority}, now_, out);
    if (explain) came_about(e, id, name, out);
  });
}

/// Whether what was explained is what was done.
void World::came_about(const Explanation& e, base::RequestId id, const base::ModelName& name, const Actions& actions) {
  const std::string said = std::string(to_string(e.prospect)) + " (" + e.summary + ")";
  const auto expect = [&](bool right, const std::string& what) {
    if (!right) broken("request " + text(id) + " to " + name.str() + " was explained as " + said + ", but " + what);
  };
  bool dispatched = false, refused = false, begun = false;
  std::set<base::InstanceId> displaced;
  for (const Action& action : actions) {
    if (const auto* d = std::get_if<Dispatch>(&action); d != nullptr && d->request == id) {
      dispatched = true;
      expect(d->instance == e.instance, "it went to instance " + text(d->instance));
    } else if (const auto* r = std::get_if<Refuse>(&action); r != nullptr && r->request == id) {
      refused = true;
      expect(e.refusal == to_string(r->why) && e.summary == r->message, "it was refused: " + r->message);
    } else if (const auto* s = std::get_if<Start>(&action); s != nullptr && s->command.model.name == name) {
      begun = true;
      expect(e.way == (s->command.image.empty() ? wire::Way::start : wire::Way::restore) && s->node == e.node && s->command.all_devices() == e.devices,
             "instance " + text(s->command.instance) + " was begun on " + s->node.str());
      expect(s->cause.rule == Rule::request, "that had another cause");
    } else if (const auto* w = std::get_if<Wake>(&action); w != nullptr && instances_.at(w->command.instance).model == name) {
      begun = true;
      expect(e.way == wire::Way::wake && w->command.instance == e.instance, "instance " + text(w->command.instance) + " was woken");
    } else if (const auto* stop = std::get_if<Stop>(&action)) {
      displaced.insert(stop->instance);
    } else if (const auto* freeze = std::get_if<Freeze>(&action)) {
      displaced.insert(freeze->command.instance);
    }
  }
  expect(dispatched == (e.prospect == Prospect::dispatched), dispatched ? "it was dispatched" : "it was not");
  expect(refused == (e.prospect == Prospect::refused), refused ? "it was refused" : "it was not");
  if (begun) expect(e.prospect == Prospect::way_up, "a replica was begun");
  for (const Displaced& other : e.displaced)
    expect(other.in_flight > 0 || displaced.count(other.instance) > 0, "instance " + text(other.instance) + " did not make room");
  base::Duration sum{};
  for (const EstimatedPart& part : e.parts) {
    expect(part.takes >= base::Duration::zero() && !part.source.empty(), "its part " + part.name + " is none");
    sum += part.takes;
  }
  expect(sum == e.first_token, "its parts are another sum");
  ++explained_[to_string(e.prospect)];
}

void World::on(const Dispatch& action) {
  const auto request = requests_.find(action.request);
  const auto instance = instances_.find(action.instance);
  if (request == requests_.end() || request->second.state != Request::State::waiting) broken("dispatch of a request that does not wait");
  if (instance == instances_.end()) broken("dispatch to an unknown instance");
  Request& r = request->second;
  Instance& i = instance->second;
  if (i.model != r.model) broken("dispatch to another model's instance");
  if (!i.said_ready || i.said_down || i.stop_asked || i.state != Instance::State::up) broken("dispatch to an instance that is not ready");
  if (i.in_flight.size() >= i.target) broken("more in flight than targetConcurrency");
  if (i.alone) broken("dispatch beside a retried request that must run alone");
  if (r.retried && !i.in_flight.empty()) broken("a retried request is not alone");
  if (action.queued < base::Duration::zero()) broken("queued for a negative time");
  r.state = Request::State::running;
  r.instance = action.instance;
  const base::RequestId id = action.request;
  const unsigned attempt = ++r.attempt;
  if (attempt > 3) broken("more attempts than allowed");
  i.in_flight.insert(id);
  if (r.retried) i.alone = id;

  const base::Duration delay = dice_.between(base::Millis(1), base::Millis(50));
  if (!i.alive) {
    at(delay, [=, this] { fail(id, attempt, RequestFailure::connect); });
  } else if (dice_.chance(3)) {
    at(base::Millis(2000), [=, this] { fail(id, attempt, RequestFailure::stalled); });
  } else if (dice_.chance(2)) {
    at(delay, [this, inst = action.instance] { die(inst, wire::DownReason::crashed, true); });  // this request is poison
  } else {
    at(delay, [=, this] {
      const auto it = requests_.find(id);
      if (it == requests_.end() || it->second.attempt != attempt || it->second.state != Request::State::running) return;
      it->second.answering = true;
      const auto at_instance = instances_.find(it->second.instance);
      if (at_instance != instances_.end() && at_instance->second.alone == id) at_instance->second.alone = {};
      scheduler_.request_answering(id, now_);
      tick_may_be_due_ = true;
      check();
    });
    at(delay + dice_.between(base::Millis(1), dice_.chance(5) ? base::Millis(20'000) : base::Millis(500)),
       [=, this] { finish(id, attempt); });
  }
}

void World::on(const Refuse& action) {
  const auto found = requests_.find(action.request);
  if (found == requests_.end() || found->second.state != Request::State::waiting) broken("refusal of a request that does not wait");
  const base::Duration after = action.retry_after;
  if (after != base::Duration::zero() && (after < base::Seconds(1) || after > base::Seconds(60))) broken("retry_after is out of range");
  if (action.message.empty() || action.message.size() > 1000) broken("a refusal without a sensible message");
  requests_.erase(found);
  ++refused_;
}

void World::take_off(base::RequestId id) {
  const Request& r = requests_.at(id);
  const auto instance = instances_.find(r.instance);
  if (r.state != Request::State::running || instance == instances_.end()) return;
  instance->second.in_flight.erase(id);
  if (instance->second.alone == id) instance->second.alone = {};
}

void World::forget(base::RequestId id) {
  take_off(id);
  requests_.erase(id);
}

void World::finish(base::RequestId id, unsigned attempt) {
  const auto it = requests_.find(id);
  if (it == requests_.end() || it->second.attempt != attempt || it->second.state != Request::State::running) return;
  const auto instance = instances_.find(it->second.instance);
  if (instance == instances_.end() || !instance->second.alive) return;  // its failure is on the way
  forget(id);
  ++served_;
  call("end " + text(id), [&](Actions& out) { scheduler_.request_ended(id, now_, out); });
}

void World::fail(base::RequestId id, unsigned attempt, RequestFailure how) {
  const auto it = requests_.find(id);
  if (it == requests_.end() || it->second.attempt != attempt || it->second.state != Request::State::running) return;
  Request& r = it->second;
  take_off(id);
  r.state = Request::State::waiting;
  r.retried = true;
  const auto model = models_.find(r.model);
  r.deadline = now_ + (model == models_.end() ? base::Duration{} : model->second.scaling.queue.timeout);
  if (r.answering) requests_.erase(it);
  call("fail " + text(id), [&](Actions& out) { scheduler_.request_failed(id, how, now_, out); });
}

void World::operate() {
  const std::uint64_t what = dice_.below(100);
  const std::string name = "m" + std::to_string(dice_.below(6));
  if (what < 35) return deploy(name);
  if (what < 55) return operate_tiers(name);
  if (what < 65) {
    models_.erase(base::ModelName(name));
    call("remove " + name, [&](Actions& out) { scheduler_.model_removed(base::ModelName(name), now_, out); });
  } else if (what < 95) {
    killing_ = dice_.chance(40);
    call((killing_ ? "kill " : "stop ") + name, [&](Actions& out) { scheduler_.model_stopped(base::ModelName(name), killing_, now_, out); });
    killing_ = false;
  } else {
    hello(0);
  }
}

void World::deploy(const std::string& name) {
  spec::ModelSpec spec;
  spec.name = base::ModelName(name);
  const auto known = models_.find(spec.name);
  if (known != models_.end()) spec = known->second;
  if (known == models_.end() || dice_.chance(40)) {
    spec.resources.device_memory_bytes = 10 + dice_.below(91);
    spec.resources.device = dice_.chance(80) ? spec::DeviceKind::cpu : spec::DeviceKind::cuda;
    spec.args = {std::to_string(dice_.below(3))};
    spec.resources.devices = 1;
    if (mix_.gangs && dice_.chance(60)) {
      spec.resources.device = spec::DeviceKind::cuda;
      spec.resources.devices = 1 + static_cast<std::uint32_t>(dice_.below(4));
      *spec.resources.device_memory_bytes += dice_.below(100);
    }
    spec.scaling.target_concurrency = 1 + static_cast<std::uint32_t>(dice_.below(4));
  }
  if (mix_.shares) spec.priority = spec::Priority(dice_.below(3));
  spec.start_deadline = base::Seconds(10);
  spec.scaling.max_replicas = 1 + static_cast<std::uint32_t>(dice_.below(3));
  spec.scaling.min_replicas = !quiet_ && dice_.chance(15) ? 1 : 0;
  spec.scaling.idle_timeout = dice_.chance(20) ? base::Duration{} : dice_.between(base::Millis(1), base::Millis(5000));
  spec.scaling.queue.max_length = static_cast<std::uint32_t>(dice_.below(20));
  spec.scaling.queue.timeout = dice_.between(base::Millis(500), base::Millis(20'000));
  spec.standby.mode = spec::Mode(dice_.below(3));
  spec.standby.timeout = dice_.chance(10) ? base::Duration{} : dice_.between(base::Millis(1), base::Millis(8000));
  spec.snapshot.mode = spec::Mode(dice_.below(3));
  models_[spec.name] = spec;
  call("deploy " + spec.name.str(), [&](Actions& out) { scheduler_.model_deployed(spec, now_, out); });
}

/// The node comes up, or comes up again and has lost everything.
void World::hello(unsigned node) {
  wire::NodeHello hello;
  hello.node = base::NodeName("n" + std::to_string(node));
  const unsigned count = (mix_.gangs ? 3 : 1) + static_cast<unsigned>(dice_.below(mix_.gangs ? 3 : 2));
  for (unsigned d = 0; d < count; ++d) {
    wire::DeviceInfo info;
    info.id = base::DeviceId("d" + std::to_string(d));
    info.kind = d == 0 ? spec::DeviceKind::cpu : spec::DeviceKind::cuda;
    info.total_bytes = info.budget_bytes = 60 + dice_.below(100);
    hello.devices.push_back(info);
  }
  equip(hello);
  const std::string prefix = hello.node.str() + "/";
  std::erase_if(devices_, [&](const auto& entry) { return entry.first.rfind(prefix, 0) == 0; });
  for (const wire::DeviceInfo& info : hello.devices) devices_[prefix + info.id.str()] = info;
  for (auto it = instances_.begin(); it != instances_.end();) {
    if (it->second.device.rfind(prefix, 0) != 0) {
      ++it;
      continue;
    }
    for (const base::RequestId r : it->second.in_flight) {
      const unsigned attempt = requests_.at(r).attempt;
      at(dice_.between(base::Millis(0), base::Millis(10)), [=, this] { fail(r, attempt, RequestFailure::connect); });
    }
    it = instances_.erase(it);
  }
  call("node " + hello.node.str(), [&](Actions& out) { scheduler_.node_joined(hello, now_, out); });
}

}  // namespace thaw::control::test
