// What nodes do in the simulated world: start, fail, hang, crash, stop, and tell it late or twice.
#include "unit/control/world.h"

namespace thaw::control::test {

/// All of one machine, of the right kind, as many as the model takes, none twice.
void World::put_on(Instance& i, const base::NodeName& node, const base::DeviceId& first, const std::vector<base::DeviceId>& all,
                   const spec::ModelSpec& spec) {
  const std::vector<base::DeviceId> named = all.empty() ? std::vector{first} : all;
  const std::set<base::DeviceId> different(named.begin(), named.end());
  if (named.size() != spec.resources.devices || different.size() != named.size() || named.front() != first) broken("not on as many devices as it takes");
  for (const base::DeviceId& id : named) {
    const std::string device = node.str() + "/" + id.str();
    if (devices_.count(device) == 0) broken("begun on an unknown device");
    if (devices_[device].kind != spec.resources.device) broken("begun on the wrong kind of device");
    i.devices.push_back(device);
  }
  i.device = i.devices.front();
  const std::uint64_t bytes = *spec.resources.device_memory_bytes, devices = named.size();
  i.bytes = i.full_bytes = (bytes + devices - 1) / devices;
  if (devices > 1) ++gangs_begun_;
}

void World::on(const Start& action) {
  const base::InstanceId id = action.command.instance;
  const spec::ModelSpec& spec = action.command.model;
  if (instances_.count(id) > 0) broken("an instance id was used twice");
  const auto model = models_.find(spec.name);
  if (model == models_.end()) broken("start of a removed model");
  if (model->second.args != spec.args) broken("start of an old spec");
  Instance& i = instances_[id];
  i.model = spec.name;
  put_on(i, action.node, action.command.device, action.command.devices, spec);
  i.target = spec.scaling.target_concurrency;

  if (!action.command.image.empty()) {
    const auto image = images_.find(action.command.image);
    if (image == images_.end() || image->second.dropped) broken("restore from an image that is not there");
    if (image->second.model != spec.name || image->second.node != action.node.str()) broken("restore from another's image");
  }
  const base::ImageId image = action.command.image;

  const base::Duration delay = dice_.between(base::Millis(1), dice_.chance(10) ? base::Millis(8000) : base::Millis(400));
  const std::uint64_t fate = dice_.below(100);
  if (fate < 10) {
    at(delay, [this, id] { die(id, dice_.chance(50) ? wire::DownReason::start_failed : wire::DownReason::out_of_memory, true); });
  } else if (fate < 13) {
    at(action.command.deadline, [this, id] { die(id, wire::DownReason::start_timeout, true); });
  } else if (fate < 15) {
    at(delay, [this, id] { die(id, wire::DownReason::crashed, false); });  // gone is all that is heard of it
  } else {
    at(delay, [this, id, image] {
      const auto found = instances_.find(id);
      // A ready that crosses the stop on its way is sent all the same.
      if (found == instances_.end() || (!found->second.alive && !found->second.stop_asked)) return;
      const bool restored = !image.empty() && dice_.chance(75);
      if (restored) ++restored_;
      else if (!image.empty() && dice_.chance(50)) lose_image(image, "digest differs");
      say_ready(id, restored ? wire::Way::restore : wire::Way::start, restored || image.empty() ? "" : "digest differs");
    });
    if (dice_.chance(12)) {
      at(delay + dice_.between(base::Millis(1), base::Millis(15'000)), [this, id] { die(id, wire::DownReason::crashed, true); });
    }
  }
}

void World::on(const Stop& action) {
  const auto found = instances_.find(action.instance);
  if (found == instances_.end()) broken("stop of an unknown instance");
  Instance& i = found->second;
  if (i.device.rfind(action.node.str() + "/", 0) != 0) broken("stop on the wrong node");
  if (i.stop_asked) broken("stop twice");
  if (!i.in_flight.empty() && !killing_) broken("stop of an instance with a request in flight: " + action.reason);
  i.stop_asked = true;
  ++i.turn;
  if (i.state == Instance::State::imaging && i.disk_bytes > 0 && dice_.chance(20)) {  // the image was complete in the same moment
    at(base::Duration(0), [this, id = action.instance, bytes = 1 + dice_.below(i.disk_bytes)] {
      if (instances_.count(id) > 0) say_taken(id, bytes);
    });
  }
  if (!i.alive) return;  // it was dying already; gone is on its way
  i.alive = false;
  for (const base::RequestId r : i.in_flight) {
    const unsigned attempt = requests_.at(r).attempt;
    at(dice_.between(base::Millis(0), base::Millis(5)), [=, this] { fail(r, attempt, RequestFailure::cut); });
  }
  const base::InstanceId id = action.instance;
  if (dice_.chance(5)) {
    at(base::Duration(1), [this, id] {
      call("down " + text(id), [&](Actions& out) { scheduler_.instance_down({id, wire::DownReason::crashed, "exit status 1", ""}, now_, out); });
    });
  }
  at(dice_.between(base::Millis(1), dice_.chance(5) ? base::Millis(30'000) : base::Millis(300)), [this, id] { leave(id); });
}

/// The process ends by itself. The broken connections, the down and the gone arrive in any order but gone last.
void World::die(base::InstanceId id, wire::DownReason reason, bool tell) {
  const auto found = instances_.find(id);
  if (found == instances_.end() || !found->second.alive) return;
  Instance& i = found->second;
  i.alive = false;
  for (const base::RequestId r : i.in_flight) {
    const unsigned attempt = requests_.at(r).attempt;
    const auto how = dice_.chance(50) ? RequestFailure::cut : RequestFailure::connect;
    at(dice_.between(base::Millis(0), base::Millis(10)), [=, this] { fail(r, attempt, how); });
  }
  if (tell) {
    at(dice_.between(base::Millis(0), base::Millis(10)), [this, id, reason] {
      const auto it = instances_.find(id);
      if (it == instances_.end() || it->second.said_down) return;
      it->second.said_down = true;
      call("down " + text(id), [&](Actions& out) { scheduler_.instance_down({id, reason, "exit status 1", "one\ntwo\n"}, now_, out); });
    });
  }
  at(dice_.between(base::Millis(10), base::Millis(300)), [this, id] { leave(id); });
}

void World::leave(base::InstanceId id) {
  const auto found = instances_.find(id);
  if (found == instances_.end()) return;
  // Requests of a lost instance are reported by the gateway, before or after.
  for (const base::RequestId r : found->second.in_flight) {
    const unsigned attempt = requests_.at(r).attempt;
    at(dice_.between(base::Millis(0), base::Millis(10)), [=, this] { fail(r, attempt, RequestFailure::connect); });
  }
  instances_.erase(found);
  call("gone " + text(id), [&](Actions& out) { scheduler_.instance_gone({id}, now_, out); });
  if (dice_.chance(3)) call("gone " + text(id), [&](Actions& out) { scheduler_.instance_gone({id}, now_, out); });
}

}  // namespace thaw::control::test
