#include "unit/control/small_world.h"

#include <algorithm>
#include <functional>
#include <stdexcept>

#include "base/units.h"
#include "unit/control/describe.h"

namespace thaw::control::test {

namespace {

using What = SmallWorld::Choice::What;

constexpr std::uint64_t kDevice_bytes = 100;
constexpr std::uint64_t kReplica_bytes = 60;
constexpr const char* kModels[] = {"a", "b"};

base::ModelName model_of(std::uint64_t id) { return base::ModelName(kModels[id]); }

const char* word(What what) {
  switch (what) {
    case What::request: return "request";
    case What::finish: return "finish";
    case What::fail: return "fail";
    case What::leave: return "leave";
    case What::ready: return "ready";
    case What::restored: return "restored";
    case What::fell_back: return "fell back";
    case What::standby: return "standby";
    case What::standby_in_full: return "standby in full";
    case What::still_ready: return "still ready";
    case What::freeze_broke: return "freeze broke";
    case What::taken: return "taken";
    case What::not_taken: return "not taken";
    case What::down: return "down";
    case What::vanish: return "vanish";
    case What::lie: return "lie";
    case What::corrupt: return "corrupt";
    case What::tick: return "tick";
    case What::freeze: return "freeze by hand";
    case What::wake: return "wake by hand";
    case What::snapshot: return "snapshot by hand";
    case What::stop: return "stop by hand";
  }
  return "?";
}

}  // namespace

std::string to_string(const SmallWorld::Choice& choice) { return std::string(word(choice.what)) + " " + std::to_string(choice.id); }

namespace {

Policy policy_of(const SmallWorld::Setting& setting) {
  Policy policy;
  if (setting.shortlist) policy.look_everywhere_up_to = 0;
  return policy;
}

}  // namespace

SmallWorld::SmallWorld(const Setting& setting) : setting_(setting), scheduler_(policy_of(setting)) {
  wire::NodeHello hello;
  hello.node = base::NodeName("n");
  hello.devices = {{base::DeviceId("d"), setting.kind, "", "", kDevice_bytes, kDevice_bytes}};
  if (setting.gang) hello.devices.push_back({base::DeviceId("e"), setting.kind, "", "", kDevice_bytes, kDevice_bytes});
  hello.drivers = {{wire::DriverKind::cuda, setting.kind, true, false, ""}, {wire::DriverKind::criu, setting.kind, false, true, "", false, setting.gang}};
  hello.host_budget_bytes = kReplica_bytes * (setting.gang ? 2 : 1);
  hello.image_budget_bytes = kReplica_bytes;
  call("node", [&] { scheduler_.node_joined(hello, now_, out_); });
  deploy("a", spec::Mode::always, spec::Mode::always);
  deploy("b", spec::Mode::automatic, spec::Mode::never);
}

void SmallWorld::deploy(const std::string& name, spec::Mode standby, spec::Mode snapshot) {
  spec::ModelSpec spec;
  spec.name = base::ModelName(name);
  spec.resources.device = setting_.kind;
  spec.resources.devices = setting_.gang && name == "a" ? 2 : 1;
  spec.resources.device_memory_bytes = kReplica_bytes * spec.resources.devices;
  spec.scaling.target_concurrency = 1;
  spec.scaling.idle_timeout = base::Seconds(1);
  spec.scaling.queue.timeout = base::Seconds(60);
  spec.start_deadline = base::Seconds(20);
  spec.standby = {standby, base::Seconds(5)};
  spec.snapshot = {snapshot};
  arrivals_left_[spec.name] = setting_.requests;
  call("deploy " + name, [&] { scheduler_.model_deployed(spec, now_, out_); });
}

std::vector<SmallWorld::Choice> SmallWorld::choices() const {
  std::vector<Choice> all;
  for (std::uint64_t m = 0; m < 2; ++m) {
    if (arrivals_left_.at(model_of(m)) > 0) all.push_back({What::request, m});
  }
  for (const auto& [id, r] : requests_) {
    if (r.instance) all.push_back({What::finish, id.value()});
    if (r.instance && instances_.count(r.instance) == 0) all.back().what = What::fail;
    else if (r.instance) all.push_back({What::fail, id.value()});
    else all.push_back({What::leave, id.value()});
  }
  for (const auto& [id, i] : instances_) {
    const auto may = [&, n = id.value()](std::initializer_list<What> whats) {
      for (const What what : whats) all.push_back({what, n});
      all.push_back({What::vanish, n});
      if (setting_.lies) all.push_back({What::lie, n});
    };
    switch (i.at) {
      case At::starting:
        if (i.image.empty()) may({What::ready, What::down});
        else may({What::restored, What::fell_back, What::down});
        break;
      case At::ready: may({What::down}); break;
      case At::freezing: may({What::standby, What::standby_in_full, What::still_ready, What::freeze_broke, What::down}); break;
      case At::standby: may({What::down}); break;
      case At::waking: may({What::ready, What::down}); break;
      case At::imaging: may({What::taken, What::not_taken, What::down}); break;
      case At::ending: may({}); break;
    }
  }
  for (std::uint64_t n = 0; n < images_.size(); ++n) all.push_back({What::corrupt, n});
  if (scheduler_.next_tick() != base::never()) all.push_back({What::tick, 0});
  if (setting_.operators) {
    for (const What what : {What::freeze, What::wake, What::snapshot, What::stop}) all.push_back({what, 0});
  }
  return all;
}

void SmallWorld::apply(const Choice& c) {
  const base::RequestId request{c.id};
  const std::string name = to_string(c);
  switch (c.what) {
    case What::request: {
      const base::RequestId fresh{next_request_++};
      --arrivals_left_[model_of(c.id)];
      requests_[fresh].model = model_of(c.id);
      return call(name, [&] { scheduler_.request_arrived({fresh, model_of(c.id), base::TenantName("t")}, now_, out_); });
    }
    case What::finish:
    case What::leave: {
      if (const auto i = instances_.find(requests_.at(request).instance); i != instances_.end()) std::erase(i->second.in_flight, request);
      requests_.erase(request);
      return call(name, [&] { scheduler_.request_ended(request, now_, out_); });
    }
    case What::fail: {
      if (const auto i = instances_.find(requests_.at(request).instance); i != instances_.end()) std::erase(i->second.in_flight, request);
      requests_.at(request).instance = {};
      return call(name, [&] { scheduler_.request_failed(request, RequestFailure::connect, now_, out_); });
    }
    case What::corrupt: {
      const base::ImageId image = std::next(images_.begin(), static_cast<std::ptrdiff_t>(c.id))->first;
      const std::uint64_t bytes = images_.at(image);
      images_.erase(image);
      return call(name, [&] { scheduler_.image_gone({image, bytes, "digest differs"}, now_, out_); });
    }
    case What::tick:
      now_ = std::max(now_, scheduler_.next_tick());
      return call(name, [&] { scheduler_.tick(now_, out_); });
    case What::freeze: return call(name, [&] { (void)scheduler_.model_frozen(model_of(0), now_, out_); });
    case What::wake: return call(name, [&] { (void)scheduler_.model_woken(model_of(0), now_, out_); });
    case What::snapshot: return call(name, [&] { (void)scheduler_.model_snapshot(model_of(0), now_, out_); });
    case What::stop: return call(name, [&] { scheduler_.model_stopped(model_of(0), false, now_, out_); });
    default: return node_says(c, base::InstanceId{c.id});
  }
}

void SmallWorld::node_says(const Choice& c, base::InstanceId id) {
  Instance& i = instances_.at(id);
  const std::string name = to_string(c);
  switch (c.what) {
    case What::ready:
    case What::restored:
    case What::fell_back: {
      wire::InstanceReady event{id, "/run/x.sock", {}};
      event.way = i.at == At::waking ? wire::Way::wake : c.what == What::restored ? wire::Way::restore : wire::Way::start;
      event.can_freeze = true;
      event.fell_back = c.what == What::fell_back ? "digest differs" : "";
      i.at = At::ready;
      i.heard_ready = true;
      return call(name, [&] { scheduler_.instance_ready(event, now_, out_); });
    }
    case What::standby:
    case What::standby_in_full: {
      wire::InstanceStandby event;
      event.instance = id;
      const std::uint64_t devices = i.devices.size();
      if (c.what == What::standby_in_full) event.held_device_bytes = kReplica_bytes * devices;
      else if (setting_.kind == spec::DeviceKind::cuda) event.held_host_bytes = kReplica_bytes * devices;
      else event.held_device_bytes = kReplica_bytes / 6;
      i.at = At::standby;
      i.bytes = event.held_device_bytes / devices;
      return call(name, [&] { scheduler_.instance_standby(event, now_, out_); });
    }
    case What::still_ready:
      i.at = At::ready;
      i.heard_ready = true;
      return call(name, [&] { scheduler_.freeze_failed({id, "busy", true}, now_, out_); });
    case What::freeze_broke: return call(name, [&] { scheduler_.freeze_failed({id, "broke", false}, now_, out_); });
    case What::taken: {
      images_[i.image] = kReplica_bytes / 4;
      const wire::ImageInfo info{i.image, i.model, wire::DriverKind::criu, kReplica_bytes / 4, kReplica_bytes * i.devices.size(), 1};
      i.at = At::ending;
      i.disk_bytes = 0;
      return call(name, [&] { scheduler_.snapshot_taken({id, info, {}}, now_, out_); });
    }
    case What::not_taken:
      i.at = At::ending;
      i.disk_bytes = 0;
      return call(name, [&] { scheduler_.snapshot_failed({id, i.image, i.model, "disk full"}, now_, out_); });
    case What::down: {
      i.at = At::ending;
      i.disk_bytes = 0;
      return call(name, [&] { scheduler_.instance_down({id, wire::DownReason::crashed, "signal 11", ""}, now_, out_); });
    }
    case What::vanish: return end(id);
    default: return lie_about(id);
  }
}

/// Every message that means nothing in the instance's present state, all at once.
void SmallWorld::lie_about(base::InstanceId id) {
  const At at = instances_.at(id).at;
  call("lie about " + std::to_string(id.value()), [&] {
    if (at != At::starting && at != At::waking) scheduler_.instance_ready({id, "/lie", {}}, now_, out_);
    if (at != At::freezing) scheduler_.instance_standby({id, wire::DriverKind::cuda, ~0ULL, ~0ULL, {}}, now_, out_);
    if (at != At::freezing) scheduler_.freeze_failed({id, "a lie", true}, now_, out_);
    if (at != At::freezing) scheduler_.freeze_failed({id, "a lie", false}, now_, out_);
    if (at != At::imaging) scheduler_.snapshot_failed({id, {}, {}, "a lie"}, now_, out_);
    scheduler_.snapshot_taken({id, {base::ImageId("lie"), base::ModelName("a"), wire::DriverKind::criu, 1, 1, 1}, {}}, now_, out_);
    scheduler_.image_gone({base::ImageId("lie"), 1, "a lie"}, now_, out_);
    scheduler_.instance_gone({base::InstanceId(999'999)}, now_, out_);
    if (!out_.empty()) broken("something came of a lie");
  });
}

void SmallWorld::end(base::InstanceId id) {
  instances_.erase(id);
  call("gone " + std::to_string(id.value()), [&] { scheduler_.instance_gone({id}, now_, out_); });
}

void SmallWorld::finish(bool dead_node) {
  history_.emplace_back(dead_node ? "--- the node answers no more" : "--- the node does what it is told");
  for (auto& [model, left] : arrivals_left_) left = 0;
  constexpr int kMaxSteps = 400;
  for (int step = 0; step < kMaxSteps; ++step) {
    const std::vector<Choice> all = choices();
    const auto wanted = [&](const Choice& c) {
      switch (c.what) {
        case What::fail: return instances_.count(requests_.at(base::RequestId{c.id}).instance) == 0;
        case What::finish: return !dead_node || instances_.at(requests_.at(base::RequestId{c.id}).instance).at == At::ready;
        case What::vanish: return instances_.at(base::InstanceId{c.id}).at == At::ending;
        case What::ready:
        case What::restored:
        case What::standby:
        case What::taken: return !dead_node;
        default: return false;
      }
    };
    auto next = std::find_if(all.begin(), all.end(), wanted);
    if (next == all.end()) next = std::find_if(all.begin(), all.end(), [](const Choice& c) { return c.what == What::tick; });
    if (next == all.end()) break;
    apply(*next);
  }
  if (!requests_.empty()) broken("a request was never answered");
  if (!instances_.empty()) broken("an instance is left");
  if (scheduler_.next_tick() != base::never()) broken("it does not come to rest");
}

std::string SmallWorld::key() const {
  std::string key;
  const auto put = [&key](auto value) { key += std::to_string(value) + ","; };
  const auto when = [&](base::TimePoint at) { put(at == base::never() ? -1 : base::duration_cast<base::Millis>(at - now_).count()); };
  for (const InstanceView& v : scheduler_.instances()) {
    const auto found = instances_.find(v.instance);
    key += v.model.str() + to_string(v.state);
    for (const base::DeviceId& on : v.devices) key += on.str();
    put(v.device_bytes), put(v.host_bytes), put(v.in_flight), put(v.served > 0), put(int(v.way)), put(v.image.empty());
    put(found == instances_.end() ? -1 : int(found->second.at));
    when(v.since), when(v.idle_since);
  }
  for (const ModelView& m : scheduler_.models()) {
    key += "|" + m.model.str();
    put(m.queued), put(m.images), put(m.start_failures), put(m.freeze_failures), put(m.wake_failures), put(m.restore_failures);
    put(m.snapshot_failures), put(m.costs.start.samples()), put(m.costs.wake.samples()), put(m.costs.restore.samples());
    put(m.costs.freeze.samples()), put(m.evictions), when(std::max(m.backoff_until, now_)), put(arrivals_left_.at(m.model));
    put(m.costs.start.mean().count()), put(m.costs.wake.mean().count()), put(m.rests.empty());
  }
  for (const auto& [id, r] : requests_) key += r.model.str() + (r.instance ? "r" : "w");
  for (const ImageView& i : scheduler_.images()) key += i.dropping ? "d" : "i";
  for (const DeviceView& d : scheduler_.devices()) put(d.reserved_bytes);
  for (const NodeView& n : scheduler_.nodes()) put(n.host_reserved_bytes), put(n.image_reserved_bytes);
  when(scheduler_.next_tick());
  return key;
}

void SmallWorld::call(const std::string& name, const std::function<void()>& event) {
  history_.push_back(base::format_duration(now_.time_since_epoch()) + " " + name);
  event();
  carry_out();
  check();
}

void SmallWorld::carry_out() {
  const Actions actions = std::move(out_);
  out_.clear();
  for (const Action& action : actions) {
    history_.push_back("  -> " + describe(action));
    std::visit([this](const auto& a) { on(a); }, action);
  }
}

namespace {

template <typename Command>
std::vector<base::DeviceId> devices_of(const Command& command) {
  return command.devices.empty() ? std::vector{command.device} : command.devices;
}

}  // namespace

void SmallWorld::on(const Start& a) {
  if (instances_.count(a.command.instance) > 0) broken("an instance id was used twice");
  if (!a.command.image.empty() && images_.count(a.command.image) == 0) broken("restore from an image that is not there");
  instances_[a.command.instance] = {a.command.model.name, At::starting, kReplica_bytes, 0, devices_of(a.command), a.command.image, false, {}};
}

void SmallWorld::on(const Stop& a) {
  const auto found = instances_.find(a.instance);
  if (found == instances_.end()) return broken("stop of an unknown instance");
  if (!found->second.in_flight.empty()) broken("stop of a busy replica");
  found->second.at = At::ending;
  found->second.disk_bytes = 0;
}

void SmallWorld::on(const Dispatch& a) {
  const auto request = requests_.find(a.request);
  const auto instance = instances_.find(a.instance);
  if (request == requests_.end() || request->second.instance) broken("dispatch of a request that does not wait");
  if (instance == instances_.end() || instance->second.at != At::ready) broken("dispatch to an instance that is not ready");
  if (instance->second.model != request->second.model || !instance->second.in_flight.empty()) broken("dispatch to the wrong instance");
  request->second.instance = a.instance;
  instance->second.in_flight.push_back(a.request);
}

void SmallWorld::on(const Refuse& a) {
  const auto request = requests_.find(a.request);
  if (request == requests_.end() || request->second.instance) broken("refusal of a request that does not wait");
  requests_.erase(request);
}

void SmallWorld::on(const Freeze& a) {
  Instance& i = instances_.at(a.command.instance);
  if (!i.in_flight.empty()) broken("freeze of a busy replica");
  if (i.at != At::ready) broken("freeze of an instance that is not ready");
  i.at = At::freezing;
}

void SmallWorld::on(const Wake& a) {
  Instance& i = instances_.at(a.command.instance);
  if (i.at != At::standby) broken("wake of an instance that is not in standby");
  i.at = At::waking;
  i.bytes = kReplica_bytes;
}

void SmallWorld::on(const Snapshot& a) {
  const wire::TakeSnapshot& c = a.command;
  if (instances_.count(c.instance) > 0) broken("an instance id was used twice");
  instances_[c.instance] = {c.model.name, At::imaging, kReplica_bytes, c.max_bytes, devices_of(c), c.image, false, {}};
}

void SmallWorld::on(const Drop& a) {
  if (images_.erase(a.command.image) == 0) broken("drop of an unknown image");
  // The node does it at once; that it has is heard with the next event.
  scheduler_.image_gone({a.command.image, 1, "dropped"}, now_, out_);
  if (!out_.empty()) carry_out();
}

void SmallWorld::check() const {
  std::map<base::DeviceId, std::uint64_t> device;
  std::uint64_t host = 0, disk = 0;
  for (const auto& [id, i] : instances_) {
    if (setting_.gang && i.devices.size() != (i.model.str() == "a" ? 2U : 1U)) broken("not on as many devices as it takes");
    for (const base::DeviceId& held : i.devices) device[held] += i.bytes;
    disk += i.disk_bytes;
  }
  for (const auto& [id, bytes] : images_) disk += bytes;
  for (const InstanceView& v : scheduler_.instances()) {
    host += v.host_bytes;
    if (instances_.count(v.instance) == 0) broken("an instance that is gone is shown");
    if (v.state == InstanceState::freezing && v.in_flight > 0) broken("a busy replica is frozen");
  }
  if (scheduler_.instances().size() != instances_.size()) broken("an instance is forgotten");
  const NodeView n = scheduler_.nodes().at(0);
  for (const DeviceView& d : scheduler_.devices()) {
    if (d.reserved_bytes != device[d.info.id]) broken("device bytes reserved are not those held");
    if (d.reserved_bytes > d.info.budget_bytes) broken("the device is booked twice");
  }
  if (n.host_reserved_bytes != host || host > n.host_budget_bytes) broken("host memory is booked twice, or leaks");
  if (n.image_reserved_bytes != disk || disk > n.image_budget_bytes) broken("disk is booked twice, or leaks");
  std::uint64_t waiting = 0, running = 0;
  for (const auto& [id, r] : requests_) ++(r.instance ? running : waiting);
  if (scheduler_.requests_in_flight() != running) broken("a request in flight is forgotten");
  std::uint64_t queued = 0;
  for (const ModelView& m : scheduler_.models()) queued += m.queued;
  if (queued != waiting) broken("a waiting request is forgotten");
  if (waiting > 0 && scheduler_.next_tick() == base::never()) broken("a request waits and nothing will ever happen");
}

void SmallWorld::broken(const std::string& what) const {
  std::string text = what;
  for (const std::string& line : history_) text += "\n  " + line;
  throw std::runtime_error(text);
}

}  // namespace thaw::control::test
