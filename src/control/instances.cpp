// An instance's life: started, ready, drained, stopped, gone. Its bytes are held from start to gone.
#include <algorithm>
#include <cassert>

#include "control/state.h"

namespace thaw::control {

namespace {

constexpr std::size_t kMaxReasonBytes = 300;  ///< of an engine's own words in a message
constexpr std::uint64_t kMaxHeld_bytes = 1ULL << 44;  ///< of host memory; a node that reports more is wrong, and sums must not wrap

std::string last_line(const std::string& text) {
  const std::size_t end = text.find_last_not_of(" \t\r\n");
  if (end == std::string::npos) return {};
  const std::size_t begin = text.find_last_of('\n', end);
  return text.substr(begin == std::string::npos ? 0 : begin + 1, end - (begin == std::string::npos ? std::size_t(-1) : begin));
}

std::string describe(const wire::InstanceDown& e) {
  std::string words = e.detail.empty() ? wire::to_string(e.reason) : e.detail;
  if (const std::string line = last_line(e.log_tail); !line.empty()) words += ": " + line;
  if (words.size() > kMaxReasonBytes) {
    std::size_t cut = kMaxReasonBytes;
    while (cut > 0 && (static_cast<unsigned char>(words[cut]) & 0xC0U) == 0x80U) --cut;  // not inside a UTF-8 character
    words = words.substr(0, cut) + "...";
  }
  return words;
}

std::vector<base::DeviceId> ids(const std::vector<Device*>& devices) {
  std::vector<base::DeviceId> named;
  for (const Device* d : devices) named.push_back(d->info.id);
  return named;
}

void take_out(std::vector<Instance*>& list, const Instance* i) { list.erase(std::find(list.begin(), list.end(), i)); }

}  // namespace

const char* to_string(InstanceState state) {
  switch (state) {
    case InstanceState::starting: return "starting";
    case InstanceState::ready: return "ready";
    case InstanceState::freezing: return "freezing";
    case InstanceState::standby: return "standby";
    case InstanceState::waking: return "waking";
    case InstanceState::imaging: return "imaging";
    case InstanceState::stopping: return "stopping";
  }
  return "unknown";
}

/// On all of the devices `on` at once; `bytes` on each.
Instance& Scheduler::State::create(Model& m, std::vector<Device*> on, Phase phase, std::uint64_t bytes, Tenant& whose, base::TimePoint now) {
  Device& d = *on.front();
  const base::InstanceId id{next_instance++};
  auto owned = std::make_unique<Instance>();
  Instance& i = *owned;
  i.id = id;
  i.model = &m;
  i.device = &d;
  i.devices = std::move(on);
  i.phase = phase;
  i.full_bytes = m.bytes;
  i.begun_at = i.phase_since = i.billed_at = now;
  i.idle_since = base::never();
  instances.emplace(id, std::move(owned));
  hold(i, bytes, 0, now);
  give_to(i, &whose, now);
  for (Device* each : i.devices) {
    assert(each->reserved <= each->info.budget_bytes);
    each->instances.push_back(&i);
  }
  if (m.homes[0] != d.owner) {
    std::move_backward(m.homes.begin(), m.homes.end() - 1, m.homes.end());
    m.homes[0] = d.owner;
  }
  m.instances.push_back(&i);
  ++m.in_phase[static_cast<std::size_t>(phase)];
  return i;
}

/// Along the table, or not at all: false when the trigger means nothing in the present state.
bool Scheduler::State::enter(Instance& i, Trigger by, base::TimePoint now) {
  const Transition* const t = find_transition(i.phase, by);
  if (t == nullptr) return false;
  bill(i, now);
  leave_usable(i);
  Node& node = *i.device->owner;
  if (t->from == Phase::stopping) node.host_leaving -= i.host_bytes;
  if (t->to == Phase::stopping) node.host_leaving += i.host_bytes;
  if (t->from == Phase::standby) node.resting.drop(i);
  for (Device* d : i.devices) shortlist.changed(*d);
  --i.model->in_phase[static_cast<std::size_t>(t->from)];
  ++i.model->in_phase[static_cast<std::size_t>(t->to)];
  i.phase = t->to;
  i.phase_since = now;
  i.phase_deadline = {};
  return true;
}

/// What it holds from now on, on each of its devices and of its node's host memory.
void Scheduler::State::hold(Instance& i, std::uint64_t device_bytes, std::uint64_t host_bytes, base::TimePoint now) {
  bill(i, now);
  const double held = held_devices(i);
  Node& node = *i.device->owner;
  host_bytes = std::min(host_bytes, kMaxHeld_bytes);
  assert(node.host_reserved >= i.host_bytes);
  for (Device* d : i.devices) {
    assert(d->reserved >= i.bytes);
    d->reserved += device_bytes - i.bytes;
    shortlist.changed(*d);
  }
  node.host_reserved += host_bytes - i.host_bytes;
  if (i.phase == Phase::stopping) node.host_leaving += host_bytes - i.host_bytes;
  i.bytes = device_bytes;
  i.host_bytes = host_bytes;
  if (i.tenant != nullptr) hold_for(*i.tenant, held_devices(i) - held, now);
}

void Scheduler::State::start(Device& d, const Device::Claim& claim, base::TimePoint now, Actions& out) {
  Model& m = *claim.model;
  Instance& i = create(m, claim.gang, Phase::starting, claim.bytes, *claim.tenant, now);
  i.phase_deadline = m.spec.start_deadline;
  i.cause = claim.cause;
  i.expects_until = claim.expects_until;
  ++m.ascents;
  wire::StartInstance command{i.id, m.spec, i.device->info.id, m.spec.start_deadline, {}, base::tenant_of(m.spec.name)};
  if (m.gang()) command.devices = ids(i.devices);
  std::string why = claim.reason;
  if (const Image* const image = image_for(m, *d.owner)) {
    const WayAnswer way = way_up(m);
    if (way.restore) {
      i.way = wire::Way::restore;
      i.image = command.image = image->info.image;
    }
    why += "; " + way.why;
  }
  if (!m.fell_back.empty()) why += "; " + m.fell_back;
  make_room_for_weights(m, *d.owner, now, out);
  promise_way_up(i, now);
  i.reason = why;
  out.emplace_back(std::in_place_type<Start>, d.node, std::move(command), std::move(why), i.cause);
}

void Scheduler::State::join_usable(Instance& i) {
  for (Device* d : i.devices) shortlist.changed(*d);
  std::vector<Instance*>& usable = i.model->usable;
  usable.insert(std::upper_bound(usable.begin(), usable.end(), &i,
                                 [](const Instance* a, const Instance* b) { return a->id < b->id; }),
                &i);
}

void Scheduler::State::leave_usable(Instance& i) {
  if (!i.usable()) return;
  take_out(i.model->usable, &i);
  for (Device* d : i.devices) shortlist.changed(*d);
}

namespace {

Rule rule_of(Instance::Drain why) {
  switch (why) {
    case Instance::Drain::none: break;
    case Instance::Drain::scaled_down: return Rule::scaled_down;
    case Instance::Drain::evicted: return Rule::evicted;
    case Instance::Drain::replaced: return Rule::replaced;
    case Instance::Drain::asked: return Rule::by_hand;
    case Instance::Drain::removed: return Rule::removed;
    case Instance::Drain::suspect: return Rule::suspect;
  }
  return Rule::none;
}

}  // namespace

/// No new requests; stopped once those in flight have ended, so at once when there are none. What is in any other state is stopped.
void Scheduler::State::drain_instance(Instance& i, Instance::Drain why, std::string reason, base::TimePoint now, Actions& out) {
  if (find_transition(i.phase, Trigger::stop) == nullptr) return;
  leave_usable(i);
  i.drain = why;
  if (i.cause.rule != rule_of(why)) i.cause = {rule_of(why)};  // else it was set with the request that wants its room
  i.reason = std::move(reason);
  touch(*i.model);
  changed_on(i);
  if (i.in_flight == 0) stop(i, now, out);
}

void Scheduler::State::stop(Instance& i, base::TimePoint now, Actions& out, Trigger by) {
  assert(find_transition(i.phase, by) != nullptr);
  assert(i.in_flight == 0 || i.killed);
  if (i.phase == Phase::imaging) snapshot_ended(i, i.reason, now);
  cancel_wake(i, now, out);
  enter(i, by, now);
  changed_on(i);
  touch(*i.model);
  out.emplace_back(std::in_place_type<Stop>, i.device->node, i.id, i.reason, i.cause);
}

/// It stays after all. Its model had to wait in line meanwhile like everybody else, so a new turn begins.
void Scheduler::State::revive(Instance& i, base::TimePoint now) {
  assert(i.phase == Phase::ready && i.drain != Instance::Drain::none);
  i.drain = Instance::Drain::none;
  i.turn_from = now;
  i.cause = {};
  i.reason.clear();
  join_usable(i);
  touch(*i.model);
}

void Scheduler::State::ready(const wire::InstanceReady& e, base::TimePoint now, Actions& out) {
  Instance* const i = find(e.instance);
  // Unknown: of an earlier life. Not rising: it was told to stop and said ready on the way; gone follows.
  if (i == nullptr || !i->rising()) return;
  Model& m = *i->model;
  const bool woken = i->phase == Phase::waking;
  if (woken) woke_up(*i, now);
  else came_up(*i, e, now, out);
  enter(*i, Trigger::up, now);
  i->was_ready = true;
  i->can_freeze = e.can_freeze;
  i->ready_at = i->turn_from = i->idle_since = now;
  i->rest_at = i->expects_until;
  i->rest_waits_since = i->expects_until = {};
  hold(*i, i->full_bytes, e.held_host_bytes, now);
  i->ready_host_bytes = i->host_bytes;
  m.summoned = false;
  m.fell_back.clear();
  join_usable(*i);
  touch(m);
  changed_on(*i);
  // With one more, others of its model may leave.
  if (m.min_replicas() > 0) {
    for (Instance* other : m.usable) changed_on(*other);
  }
  relieve_host(*i->device->owner, now, out);
  work(now, out);
}

void Scheduler::State::down(const wire::InstanceDown& e, base::TimePoint now, Actions& out) {
  Instance* const i = find(e.instance);
  if (i == nullptr || i->phase == Phase::gone) return;
  Model& m = *i->model;
  const bool failed = e.reason != wire::DownReason::stopped;
  if (failed) m.last_failure = describe(e);
  if (find_transition(i->phase, Trigger::down) == nullptr) return;
  const Phase was = i->phase;
  const std::string words = failed ? m.last_failure : "ended";
  if (was == Phase::imaging) snapshot_ended(*i, words, now);
  cancel_wake(*i, now, out);
  enter(*i, Trigger::down, now);
  i->reason = words;
  changed_on(*i);
  touch(m);
  if (was == Phase::freezing || was == Phase::standby || was == Phase::waking) {
    if (failed) rest_failed(*i, was);
  } else if (was != Phase::imaging) {
    if (failed && was == Phase::starting) restore_failed(*i, now, out);
    // A replica that ends soon after it was ready, before any request could be to blame, did not start in truth.
    if (settled(*i, now)) {
      succeeded(m);
    } else if (failed) {
      if (i->used) back_off(m, *i, now);
      else start_failed(m, *i, now, out);
    }
  }
  for (const Device* d : i->devices) look_at_claims(*d);
  work(now, out);
}

void Scheduler::State::outdated(base::InstanceId id, const std::string& reason, base::TimePoint now, Actions& out) {
  Instance* const i = find(id);
  if (i == nullptr || find_transition(i->phase, Trigger::stop) == nullptr) return;
  if (i->drain == Instance::Drain::replaced) return;
  // What was made of the old file is worth nothing any more.
  for (Image* image : i->model->images) {
    if (image->node == i->device->owner) drop(*image, reason, out);
  }
  // Also one that drains already: it might be taken back.
  drain_instance(*i, Instance::Drain::replaced, reason, now, out);
  work(now, out);
}

void Scheduler::State::gone(Instance& i, base::TimePoint now, Actions& out) {
  if (i.phase == Phase::gone) return;
  Model& m = *i.model;
  const std::vector<Device*> was_on = i.devices;
  if (i.phase == Phase::imaging) snapshot_ended(i, "it ended before the image was made", now);
  if (i.phase == Phase::stopping) i.device->owner->stops.note(now - i.phase_since);
  cancel_wake(i, now, out);
  enter(i, Trigger::vanished, now);
  hold(i, 0, 0, now);
  give_to(i, nullptr, now);
  shortlist.left(i);
  i.device = nullptr;
  i.devices.clear();
  for (Device* d : was_on) take_out(d->instances, &i);
  take_out(m.instances, &i);
  touch(m);
  for (Device* d : was_on) changed_on(*d);
  if (i.in_flight == 0) instances.erase(i.id);
  for (Device* d : was_on) fund(*d, now, out);
}

}  // namespace thaw::control
