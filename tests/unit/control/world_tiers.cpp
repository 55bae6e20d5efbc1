// Standby and images in the simulated world: what nodes do when they are told, what they do instead, and what they say that is not so.
#include "unit/control/world.h"

namespace thaw::control::test {

namespace {

std::string node_of(const std::string& device) { return device.substr(0, device.find('/')); }

}  // namespace

/// Later, unless the instance was ordered something else meanwhile, or is no more.
void World::answer(base::InstanceId id, base::Duration delay, std::function<void(Instance&)> act) {
  const unsigned turn = ++instances_.at(id).turn;
  at(delay, [this, id, turn, act = std::move(act)] {
    const auto found = instances_.find(id);
    if (found != instances_.end() && found->second.alive && found->second.turn == turn) act(found->second);
  });
}

void World::on(const Freeze& action) {
  const base::InstanceId id = action.command.instance;
  const auto found = instances_.find(id);
  if (found == instances_.end()) broken("freeze of an unknown instance");
  Instance& i = found->second;
  if (!i.in_flight.empty()) broken("freeze of a busy replica");
  if (i.state != Instance::State::up || !i.said_ready || i.said_down || i.stop_asked) broken("freeze of an instance that is not ready");
  if (models_.count(i.model) == 0) broken("freeze of a removed model's instance");
  i.state = Instance::State::freezing;
  i.said_ready = false;
  for (const InstanceView& v : scheduler_.instances()) {
    if (v.instance != id || v.host_bytes <= i.host_bytes) continue;
    for (const NodeView& n : scheduler_.nodes()) {
      if (n.node == action.node && n.host_reserved_bytes > n.host_budget_bytes) broken("a freeze is begun without host memory for it");
    }
  }
  const base::Duration delay = dice_.between(base::Millis(1), dice_.chance(10) ? base::Millis(3000) : base::Millis(100));
  const std::uint64_t fate = dice_.below(100);
  if (fate < 10) {
    answer(id, delay, [this, id](Instance& it) {
      it.state = Instance::State::up;
      it.said_ready = true;
      call("freeze_failed " + text(id), [&](Actions& out) { scheduler_.freeze_failed({id, "busy", true}, now_, out); });
    });
  } else if (fate < 17) {
    answer(id, delay, [this, id](Instance&) {
      call("freeze_failed dead " + text(id), [&](Actions& out) { scheduler_.freeze_failed({id, "it broke", false}, now_, out); });
      die(id, wire::DownReason::freeze_failed, true);
    });
  } else if (fate < 22) {
    answer(id, delay, [this, id](Instance&) { die(id, wire::DownReason::crashed, dice_.chance(50)); });
  } else if (fate < 26) {
    ++i.turn;  // nothing is ever heard of it
  } else {
    answer(id, delay, [this, id](Instance& it) { say_standby(id, it); });
  }
  if (dice_.chance(10)) lie(id);
}

void World::say_standby(base::InstanceId id, Instance& i) {
  wire::InstanceStandby event;
  event.instance = id;
  const std::uint64_t devices = i.devices.size(), all_bytes = i.full_bytes * devices;
  event.held_device_bytes = dice_.chance(5) ? all_bytes * 2 : dice_.below(all_bytes + 1);
  event.held_host_bytes = dice_.chance(5) ? 1'000 : dice_.below(all_bytes + 1);
  i.state = Instance::State::standby;
  i.bytes = std::min((event.held_device_bytes + devices - 1) / devices, i.full_bytes);
  i.host_bytes = event.held_host_bytes;
  call("standby " + text(id), [&](Actions& out) { scheduler_.instance_standby(event, now_, out); });
  if (dice_.chance(10)) lie(id);
  if (dice_.chance(6)) at(dice_.between(base::Millis(1), base::Millis(4000)), [this, id] { die(id, wire::DownReason::crashed, true); });
}

void World::on(const Wake& action) {
  const base::InstanceId id = action.command.instance;
  const auto found = instances_.find(id);
  if (found == instances_.end()) broken("wake of an unknown instance");
  Instance& i = found->second;
  if (i.state != Instance::State::standby || i.stop_asked || i.said_down) broken("wake of an instance that is not in standby");
  i.state = Instance::State::waking;
  i.bytes = i.full_bytes;
  if (!i.alive) return;  // it died in standby; down or gone is on its way
  const base::Duration delay = dice_.between(base::Millis(1), dice_.chance(10) ? base::Millis(3000) : base::Millis(60));
  const std::uint64_t fate = dice_.below(100);
  if (fate < 8) {
    answer(id, delay, [this, id](Instance&) { die(id, wire::DownReason::wake_failed, true); });
  } else if (fate < 12) {
    answer(id, delay, [this, id](Instance&) { die(id, wire::DownReason::crashed, false); });
  } else if (fate < 16) {
    ++i.turn;  // nothing is ever heard of it
  } else {
    answer(id, delay, [this, id](Instance& it) {
      it.state = Instance::State::up;
      ++woken_;
      say_ready(id, wire::Way::wake, "");
    });
  }
  if (dice_.chance(10)) lie(id);
}

void World::say_ready(base::InstanceId id, wire::Way way, const std::string& fell_back) {
  Instance& i = instances_.at(id);
  i.said_ready = !i.stop_asked;
  wire::InstanceReady event{id, "/run/engine.sock", {}, way, fell_back};
  event.can_freeze = dice_.chance(85);
  event.held_host_bytes = dice_.chance(20) ? dice_.below(20) : 0;
  if (i.said_ready) i.host_bytes = event.held_host_bytes;
  call("ready " + text(id), [&](Actions& out) { scheduler_.instance_ready(event, now_, out); });
}

/// Something that is not so in the present state. Nothing may come of it.
void World::lie(base::InstanceId id) {
  using State = Instance::State;
  const State state = instances_.at(id).state;
  const std::uint64_t what = dice_.below(4);
  at(base::Duration(1), [this, id, state, what] {
    const auto found = instances_.find(id);
    if (found == instances_.end() || found->second.state != state) return;
    if (what == 0 && state != State::waking) {
      call("lie: ready " + text(id), [&](Actions& out) { scheduler_.instance_ready({id, "/lie", {}, wire::Way::wake, ""}, now_, out); });
    } else if (what == 1 && state != State::freezing) {
      call("lie: standby " + text(id),
           [&](Actions& out) { scheduler_.instance_standby({id, wire::DriverKind::cuda, ~0ULL, ~0ULL, {}}, now_, out); });
    } else if (what == 2 && state != State::freezing) {
      call("lie: freeze_failed " + text(id), [&](Actions& out) { scheduler_.freeze_failed({id, "a lie", dice_.chance(50)}, now_, out); });
    } else if (state != State::imaging) {
      call("lie: taken " + text(id), [&](Actions& out) {
        scheduler_.snapshot_taken({id, {base::ImageId("lie"), base::ModelName("m0"), wire::DriverKind::runsc, 5, 5, 5}, {}}, now_, out);
      });
    }
  });
}

// --- images

void World::on(const Snapshot& action) {
  const wire::TakeSnapshot& command = action.command;
  const base::InstanceId id = command.instance;
  if (instances_.count(id) > 0) broken("an instance id was used twice");
  const auto model = models_.find(command.model.name);
  if (model == models_.end() || model->second.args != command.model.args) broken("snapshot of a removed model or an old spec");
  if (command.max_bytes == 0) broken("snapshot without disk");
  Instance& i = instances_[id];
  i.model = command.model.name;
  put_on(i, action.node, command.device, command.devices, command.model);
  i.disk_bytes = command.max_bytes;
  i.state = Instance::State::imaging;
  i.image = command.image;
  for (const NodeView& n : scheduler_.nodes()) {
    if (n.node == action.node && n.image_reserved_bytes > n.image_budget_bytes) broken("a snapshot is begun without disk for it");
  }
  const base::Duration delay = dice_.between(base::Millis(10), base::Millis(1000));
  const std::uint64_t fate = dice_.below(100);
  if (fate < 60) {
    answer(id, delay, [this, id](Instance& it) {
      say_taken(id, dice_.chance(5) ? 1'000 : 1 + dice_.below(it.disk_bytes));
      die(id, wire::DownReason::stopped, false);
    });
  } else if (fate < 80) {
    answer(id, delay, [this, id](Instance& it) {
      it.disk_bytes = 0;
      call("not taken " + text(id), [&](Actions& out) { scheduler_.snapshot_failed({id, it.image, it.model, "disk full"}, now_, out); });
      die(id, wire::DownReason::stopped, false);
    });
  } else if (fate < 95) {
    answer(id, delay, [this, id](Instance&) { die(id, wire::DownReason::crashed, dice_.chance(50)); });
  }
}

void World::say_taken(base::InstanceId id, std::uint64_t bytes) {
  Instance& i = instances_.at(id);
  images_[i.image] = {node_of(i.device), i.model, bytes};
  i.disk_bytes = 0;
  ++images_made_;
  const auto created = static_cast<std::uint64_t>(now_.time_since_epoch().count());
  const wire::ImageInfo info{i.image, i.model, wire::DriverKind::runsc, bytes, i.full_bytes * i.devices.size(), created};
  call("taken " + text(id), [&](Actions& out) { scheduler_.snapshot_taken({id, info, {}}, now_, out); });
}

void World::on(const Drop& action) {
  const base::ImageId id = action.command.image;
  const auto found = images_.find(id);
  if (found == images_.end()) broken("drop of an unknown image");
  if (found->second.dropped) broken("drop twice");
  found->second.dropped = true;
  at(dice_.between(base::Millis(1), base::Millis(500)), [this, id] { lose_image(id, "dropped"); });
}

void World::lose_image(const base::ImageId& id, const std::string& reason) {
  const auto found = images_.find(id);
  if (found == images_.end()) return;
  const std::uint64_t bytes = found->second.bytes;
  images_.erase(found);
  call("image gone " + id.str(), [&](Actions& out) { scheduler_.image_gone({id, bytes, reason}, now_, out); });
}

// --- nodes, operators

/// Drivers and budgets of a node that says hello, and the images that it still has.
void World::equip(wire::NodeHello& hello) {
  for (const auto kind : {spec::DeviceKind::cpu, spec::DeviceKind::cuda}) {
    if (dice_.chance(70)) hello.drivers.push_back({wire::DriverKind::freezer, kind, true, false, ""});
    if (dice_.chance(60)) hello.drivers.push_back({wire::DriverKind::runsc, kind, false, true, "", false, mix_.gangs});
    if (dice_.chance(30)) hello.drivers.push_back({wire::DriverKind::criu, kind, false, false, "not installed"});
  }
  hello.host_budget_bytes = dice_.below(150);
  hello.image_budget_bytes = dice_.below(200);
  const std::string node = hello.node.str();
  for (auto it = images_.begin(); it != images_.end();) {
    if (it->second.node != node) {
      ++it;
    } else if (dice_.chance(30)) {
      it = images_.erase(it);
    } else {
      hello.images.push_back({it->first, it->second.model, wire::DriverKind::runsc, it->second.bytes, 1, 1});
      it->second.dropped = false;
      ++it;
    }
  }
}

void World::operate_tiers(const std::string& name) {
  const base::ModelName model(name);
  const auto expect = [&](bool ok, const base::Error* error) {
    if (!ok && (error->message.empty() || error->message.size() > 500)) broken("a refusal without a sensible message");
  };
  switch (dice_.below(5)) {
    case 0:
      call("freeze " + name, [&](Actions& out) {
        const auto result = scheduler_.model_frozen(model, now_, out);
        expect(result.ok(), result.ok() ? nullptr : &result.error());
      });
      break;
    case 1:
      call("wake " + name, [&](Actions& out) {
        const auto result = scheduler_.model_woken(model, now_, out);
        expect(result.ok(), result.ok() ? nullptr : &result.error());
      });
      break;
    case 2:
    case 3:
      call("snapshot " + name, [&](Actions& out) {
        const auto result = scheduler_.model_snapshot(model, now_, out);
        expect(result.ok(), result.ok() ? nullptr : &result.error());
      });
      break;
    default:
      if (images_.empty()) return;
      const base::ImageId image = images_.begin()->first;
      if (dice_.chance(30)) return lose_image(image, "found corrupt");
      call("drop " + image.str(), [&](Actions& out) { (void)scheduler_.image_dropped(image, now_, out); });
  }
}

void World::check_tiers() const {
  std::map<std::string, std::uint64_t> host, disk;
  for (const InstanceView& v : scheduler_.instances()) {
    const auto found = instances_.find(v.instance);
    if (found == instances_.end()) continue;  // said elsewhere
    const Instance& i = found->second;
    host[v.node.str()] += v.host_bytes;
    disk[v.node.str()] += v.state == InstanceState::imaging ? i.disk_bytes : 0;
    const bool settled = v.state == InstanceState::ready || v.state == InstanceState::standby;
    if (settled && v.host_bytes != i.host_bytes) broken("host bytes of instance " + text(v.instance) + " differ");
    if (v.state == InstanceState::standby && i.state != Instance::State::standby) broken("shown in standby but is not");
    if (v.state == InstanceState::freezing && v.in_flight > 0) broken("a busy replica is frozen");
  }
  for (const ImageView& v : scheduler_.images()) {
    const auto found = images_.find(v.info.image);
    if (found == images_.end()) broken("image " + v.info.image.str() + " is gone and still shown");
    if (v.info.bytes != found->second.bytes) broken("bytes of image " + v.info.image.str() + " differ");
    disk[v.node.str()] += v.info.bytes;
  }
  for (const NodeView& n : scheduler_.nodes()) {
    const std::string name = n.node.str();
    if (n.host_reserved_bytes != host[name]) broken(name + ": host memory reserved is not the sum of its instances");
    if (n.image_reserved_bytes != disk[name]) broken(name + ": disk reserved is not the sum of its images");
  }
}

}  // namespace thaw::control::test
