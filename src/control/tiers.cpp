// Standby: who is frozen, who is woken, and what becomes of it when that fails. Bytes are reserved before an effect and released when the
// node has said what is really held.
#include <algorithm>
#include <cassert>

#include "base/units.h"
#include "control/state.h"

namespace thaw::control {

bool Node::can_freeze(spec::DeviceKind kind) const {
  return std::any_of(drivers.begin(), drivers.end(), [&](const wire::DriverInfo& d) { return d.device == kind && d.standby; });
}

/// What it will hold on its device once everything that is in motion has ended.
std::uint64_t Scheduler::State::lasting(const Instance& i, base::TimePoint now) const {
  switch (i.phase) {
    case Phase::ready: return i.usable() ? i.bytes : 0;
    case Phase::freezing: return expected_device_bytes(i);
    case Phase::stopping: return late_to_stop(i, now) ? i.bytes : 0;
    default: return i.bytes;
  }
}

/// What the loss of one in standby costs: how often its model is asked for, times what the next best way up takes longer.
double Scheduler::State::resting_worth(const Instance& i, base::TimePoint now) const {
  const Model& m = *i.model;
  const base::Duration saved = m.start_cost() - m.costs.wake.mean() - read_again(i);
  return m.rate.per_second(now) * std::max(base::to_s(saved), 0.0) / std::max(m.ready() + m.in(Phase::standby), 1U);
}

/// Whether standby is possible and wanted for this replica at all.
bool Scheduler::State::may_rest_in_standby(const Instance& i) const {
  const spec::Standby& standby = i.model->spec.standby;
  return i.can_freeze && !draining && standby.mode != spec::Mode::never &&
         standby.timeout > base::Duration::zero() && i.device->owner->can_freeze(i.device->info.kind);
}

/// A replica on the CPU computes with the page cache itself, so standby takes its weights out of there; a stop leaves them.
base::Duration Scheduler::State::read_again(const Instance& i) const {
  constexpr double kUnmeasuredDisk_bytes_per_s = 1e9;
  if (i.device->info.kind != spec::DeviceKind::cpu) return {};
  const double measured = i.device->owner->read_bytes_per_s;
  return base::Duration(static_cast<std::int64_t>(static_cast<double>(i.model->weights_bytes) / (measured > 0 ? measured : kUnmeasuredDisk_bytes_per_s) * 1e9));
}

RestQuestion Scheduler::State::rest_question(const Instance& i) const {
  const Model& m = *i.model;
  const bool image = image_for(m, *i.device->owner) != nullptr;
  return {&m.costs, image, m.descents, m.rest_failures, m.rests_in_standby, read_again(i)};
}

RestAnswer Scheduler::State::resting_place(const Instance& i) const {
  if (i.model->spec.standby.mode == spec::Mode::always) return {true, true, "standby.mode is always"};
  return choose_rest(rest_question(i));
}

bool Scheduler::State::would_rest_in_standby(const Instance& i) const {
  return i.model->spec.standby.mode == spec::Mode::always || rests_in_standby(rest_question(i));
}

/// An idle replica goes to where its model rests.
Scheduler::State::Rest Scheduler::State::rest(Instance& i, const char* reason, base::TimePoint now, Actions& out) {
  Model& m = *i.model;
  i.cause = {Rule::idle};
  if (may_rest_in_standby(i)) {
    const RestAnswer answer = resting_place(i);
    ++m.descents;
    m.rests_in_standby = answer.prefers_standby;
    m.rests = (answer.standby ? "in standby: " : "stopped: ") + answer.why;
    if (answer.standby && standby_is_dear(i, now)) {
      m.rests = "stopped: others need the bus or the host memory that standby would take";
    } else if (answer.standby) {
      if (make_host_room(i, now, out)) {
        freeze(i, reason, now, out);
        return Rest::frozen;
      }
      if (i.rest_waits_since == base::TimePoint{}) i.rest_waits_since = now;
      const bool comes_back = i.device->info.kind != spec::DeviceKind::cpu &&
                              image_for(m, *i.device->owner) != nullptr && m.costs.restore.known();
      const bool leaving = !comes_back && i.device->owner->host_leaving > 0;
      if (leaving && now < i.rest_waits_since + policy.host_room_wait) {
        constexpr base::Duration kLookAgain = base::Millis(200);
        i.rest_at = now + kLookAgain;
        return Rest::waits;
      }
      m.rests = "stopped: its node has no host memory left for standby";
    }
  }
  i.reason = reason;
  stop(i, now, out);
  return Rest::stopped;
}

void Scheduler::State::freeze(Instance& i, std::string why, base::TimePoint now, Actions& out) {
  assert(i.phase == Phase::ready && i.in_flight == 0);
  hold(i, i.bytes, expected_host_bytes(i), now);
  enter(i, Trigger::freeze, now);
  promise_way_down(i, now);
  i.drain = Instance::Drain::none;
  i.adapters.clear();  // what sleeps may lose them
  i.phase_deadline = policy.freeze_deadline;
  i.reason = why;
  touch(*i.model);
  changed_on(i);
  out.emplace_back(std::in_place_type<Freeze>, i.device->node, wire::FreezeInstance{i.id, policy.freeze_deadline}, std::move(why), i.cause);
  i.cause = {};  // what becomes of it next has another one
}

void Scheduler::State::wake(Device& d, const Device::Claim& claim, base::TimePoint now, Actions& out) {
  Instance& i = *claim.wake;
  assert(i.phase == Phase::standby && i.wake_claimed && i.bytes + claim.bytes == i.full_bytes);
  i.wake_claimed = false;
  hold(i, i.full_bytes, i.host_bytes, now);
  give_to(i, claim.tenant, now);
  assert(std::all_of(i.devices.begin(), i.devices.end(), [](const Device* each) { return each->reserved <= each->info.budget_bytes; }));
  enter(i, Trigger::wake, now);
  i.way = wire::Way::wake;
  i.cause = claim.cause;
  promise_way_up(i, now);
  i.phase_deadline = std::min(policy.wake_deadline, i.model->spec.start_deadline);
  i.expects_until = claim.expects_until;
  i.reason = std::string(claim.reason) + "; " + why_wake(i.model->costs, image_for(*i.model, *d.owner) != nullptr, read_again(i));
  out.emplace_back(std::in_place_type<Wake>, d.node, wire::WakeInstance{i.id, i.phase_deadline}, i.reason, i.cause);
}

void Scheduler::State::woke_up(Instance& i, base::TimePoint now) {
  Model& m = *i.model;
  m.costs.wake.note(now - i.phase_since);
  m.rest_failures = 0;
  ++m.wakes;
}

void Scheduler::State::frozen(const wire::InstanceStandby& e, base::TimePoint now, Actions& out) {
  Instance* const i = find(e.instance);
  if (i == nullptr || i->phase != Phase::freezing) return;
  Model& m = *i->model;
  m.costs.freeze.note(now - i->phase_since);
  ++m.freezes;
  enter(*i, Trigger::frozen, now);
  const std::uint64_t count = i->devices.size();
  hold(*i, std::min(e.held_device_bytes / count + (e.held_device_bytes % count > 0 ? 1 : 0), i->full_bytes), e.held_host_bytes, now);
  note_held(*i);
  weights_rest(m, *i->device->owner);
  sort_into_resting(*i);
  touch(m);
  for (const Device* each : i->devices) look_at_claims(*each);
  relieve_host(*i->device->owner, now, out);
  for (Device* each : std::vector<Device*>(i->devices)) fund(*each, now, out);
  work(now, out);
}

void Scheduler::State::freeze_failed(const wire::FreezeFailed& e, base::TimePoint now, Actions& out) {
  Instance* const i = find(e.instance);
  if (i == nullptr || i->phase != Phase::freezing) return;
  Model& m = *i->model;
  m.last_failure = "it could not be frozen: " + e.reason;
  rest_failed(*i, Phase::freezing);
  if (e.still_ready) {
    enter(*i, Trigger::still_ready, now);
    i->can_freeze = false;  // idle, it is stopped instead
    i->reason.clear();
    hold(*i, i->bytes, i->ready_host_bytes, now);
    join_usable(*i);
    touch(m);
    changed_on(*i);
  } else {
    i->reason = m.last_failure;
    i->cause = {Rule::failure};
    stop(*i, now, out, Trigger::down);
  }
  for (const Device* each : i->devices) look_at_claims(*each);
  work(now, out);
}

/// The next slower way up is taken from here on.
void Scheduler::State::rest_failed(Instance& i, Phase was) {
  Model& m = *i.model;
  ++m.rest_failures;
  if (was == Phase::freezing) {
    ++m.freeze_failures;
    return;
  }
  ++m.wake_failures;
  m.fell_back = "its replica in standby failed: " + m.last_failure;
}

/// Those that were in standby for as long as their model may be.
void Scheduler::State::stop_rested(Model& m, base::TimePoint now, Actions& out) {
  if (m.in(Phase::standby) == 0) return;
  const std::vector<Instance*> all = m.instances;
  for (Instance* i : all) {
    if (i->phase != Phase::standby || i->wake_claimed || i->phase_since + m.spec.standby.timeout > now) continue;
    i->reason = "in standby for " + base::format_duration(now - i->phase_since);
    i->cause = {Rule::standby_over};
    stop(*i, now, out);
  }
}

/// How long a request waits for a freeze to end before another replica is begun: as long as freezes take, and a little more.
base::TimePoint Scheduler::State::patience_ends(const Instance& i) const {
  const CostEstimate& freezes = i.model->costs.freeze;
  return i.phase_since + freezes.mean() + 2 * freezes.deviation() + policy.freeze_patience;
}

/// Replicas that are being frozen and will be woken as soon as that is done, if they are needed.
std::uint32_t Scheduler::State::thawing(const Model& m, base::TimePoint now) const {
  if (m.in(Phase::freezing) == 0) return 0;
  return static_cast<std::uint32_t>(std::count_if(m.instances.begin(), m.instances.end(), [&](const Instance* i) {
    return i->phase == Phase::freezing && now < patience_ends(*i);
  }));
}

// --- by hand

base::Result<std::uint32_t> Scheduler::State::freeze_model(const base::ModelName& name, base::TimePoint now, Actions& out) {
  using base::ErrorKind;
  const auto found = models.find(name);
  if (found == models.end()) return base::Error{ErrorKind::not_found, "there is no model \"" + base::public_model(name) + "\""};
  Model& m = *found->second;
  const std::string subject = "cannot freeze " + m.name() + ": ";
  if (m.ready() == 0) return base::Error{ErrorKind::conflict, subject + "it has no replica that is ready"};
  std::uint32_t frozen = 0;
  std::string why = "its replicas are busy; try again when they are not, or `thaw stop` it";
  const std::vector<Instance*> usable = m.usable;
  for (Instance* i : usable) {
    if (i->in_flight > 0) continue;
    Node& node = *i->device->owner;
    if (!i->can_freeze || !node.can_freeze(i->device->info.kind)) {
      why = "no driver for standby works with it on " + node.name.str() + "; `thaw doctor` says why";
    } else if (!make_host_room(*i, now, out)) {
      why = "node " + node.name.str() + " has no host memory left for standby";
    } else {
      i->cause = {Rule::by_hand};
      freeze(*i, "asked for by hand", now, out);
      ++frozen;
    }
  }
  if (frozen > 0) m.paused = true;
  work(now, out);
  if (frozen == 0) return base::Error{ErrorKind::conflict, subject + why};
  return frozen;
}

base::Result<bool> Scheduler::State::wake_model(const base::ModelName& name, base::TimePoint now, Actions& out) {
  using base::ErrorKind;
  const auto found = models.find(name);
  if (found == models.end()) return base::Error{ErrorKind::not_found, "there is no model \"" + base::public_model(name) + "\""};
  Model& m = *found->second;
  if (draining) return base::Error{ErrorKind::unavailable, "the server is shutting down"};
  if (m.replicas() > 0) return false;
  if (m.in(Phase::standby) == 0) {
    if (const std::string never = why_never(m); !never.empty()) return base::Error{ErrorKind::exhausted, never};
  }
  m.paused = false;
  m.summoned = true;
  touch(m);
  work(now, out);
  return true;
}

}  // namespace thaw::control
