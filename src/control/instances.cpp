// An instance's life: started, ready, drained, stopped, gone. Its bytes are held from start to gone.
#include <algorithm>
#include <cassert>

#include "control/state.h"

namespace thaw::control {

namespace {

constexpr std::size_t kMaxReasonBytes = 300;  ///< of an engine's own words in a message

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

void take_out(std::vector<Instance*>& list, const Instance* i) { list.erase(std::find(list.begin(), list.end(), i)); }

}  // namespace

const char* to_string(InstanceState state) {
  switch (state) {
    case InstanceState::starting: return "starting";
    case InstanceState::ready: return "ready";
    case InstanceState::stopping: return "stopping";
  }
  return "unknown";
}

void Scheduler::State::start(Device& d, const Device::Claim& claim, base::TimePoint now, Actions& out) {
  Model& m = *claim.model;
  const base::InstanceId id{next_instance++};
  auto owned = std::make_unique<Instance>();
  Instance& i = *owned;
  i.id = id;
  i.model = &m;
  i.device = &d;
  i.bytes = claim.bytes;
  i.begun_at = now;
  i.idle_since = base::never();
  i.reason = claim.reason;
  instances.emplace(id, std::move(owned));
  d.reserved += i.bytes;
  assert(d.reserved <= d.info.budget_bytes);
  d.instances.push_back(&i);
  m.instances.push_back(&i);
  ++m.starting;
  wire::StartInstance command{id, m.spec, d.info.id, m.spec.start_deadline};
  out.emplace_back(std::in_place_type<Start>, d.node, std::move(command));
}

void Scheduler::State::leave_usable(Instance& i) {
  if (i.usable()) take_out(i.model->usable, &i);
}

/// No new requests; stopped once those in flight have ended, so at once when there are none. A starting one is stopped.
void Scheduler::State::drain_instance(Instance& i, Instance::Drain why, std::string reason, base::TimePoint now, Actions& out) {
  if (i.phase != Instance::Phase::starting && i.phase != Instance::Phase::ready) return;
  leave_usable(i);
  i.drain = why;
  i.reason = std::move(reason);
  touch(*i.model);
  room_changed = true;
  if (i.in_flight == 0) stop(i, now, out);
}

void Scheduler::State::stop(Instance& i, base::TimePoint now, Actions& out) {
  assert(i.phase == Instance::Phase::starting || i.phase == Instance::Phase::ready);
  assert(i.in_flight == 0 || i.killed);
  leave_usable(i);
  if (i.phase == Instance::Phase::starting) --i.model->starting;
  i.phase = Instance::Phase::stopping;
  i.stopped_at = now;
  room_changed = true;
  out.emplace_back(std::in_place_type<Stop>, i.device->node, i.id, i.reason);
}

/// It stays after all. Its model had to wait in line meanwhile like everybody else, so a new turn begins.
void Scheduler::State::revive(Instance& i, base::TimePoint now) {
  assert(i.phase == Instance::Phase::ready && i.drain != Instance::Drain::none);
  i.drain = Instance::Drain::none;
  i.turn_from = now;
  i.reason.clear();
  std::vector<Instance*>& usable = i.model->usable;
  usable.insert(std::upper_bound(usable.begin(), usable.end(), &i,
                                 [](const Instance* a, const Instance* b) { return a->id < b->id; }),
                &i);
  touch(*i.model);
}

void Scheduler::State::ready(const wire::InstanceReady& e, base::TimePoint now, Actions& out) {
  Instance* const i = find(e.instance);
  // Unknown: of an earlier life. Not starting: it was told to stop and said ready on the way; gone follows.
  if (i == nullptr || i->phase != Instance::Phase::starting) return;
  Model& m = *i->model;
  --m.starting;
  i->phase = Instance::Phase::ready;
  i->was_ready = true;
  i->ready_at = i->turn_from = i->idle_since = now;
  ++m.cold_starts;
  m.start_cost.note(now - i->begun_at);
  m.usable.insert(std::upper_bound(m.usable.begin(), m.usable.end(), i,
                                   [](const Instance* a, const Instance* b) { return a->id < b->id; }),
                  i);
  touch(m);
  room_changed = true;
  work(now, out);
}

void Scheduler::State::down(const wire::InstanceDown& e, base::TimePoint now, Actions& out) {
  Instance* const i = find(e.instance);
  if (i == nullptr || i->phase == Instance::Phase::gone) return;
  Model& m = *i->model;
  if (e.reason != wire::DownReason::stopped) m.last_failure = describe(e);
  if (i->phase == Instance::Phase::stopping) return;
  const bool was_starting = i->phase == Instance::Phase::starting;
  leave_usable(*i);
  if (was_starting) --m.starting;
  i->phase = Instance::Phase::stopping;
  i->stopped_at = now;
  i->reason = e.reason == wire::DownReason::stopped ? "ended" : m.last_failure;
  room_changed = true;
  touch(m);
  // A replica that ends soon after it was ready, before any request could be to blame, did not start in truth.
  if (settled(*i, now)) {
    succeeded(m);
  } else if (e.reason != wire::DownReason::stopped) {
    if (i->used) {
      back_off(m, *i, now);
    } else {
      start_failed(m, *i, now, out);
    }
  }
  work(now, out);
}

void Scheduler::State::outdated(base::InstanceId id, const std::string& reason, base::TimePoint now, Actions& out) {
  Instance* const i = find(id);
  if (i == nullptr || (i->phase != Instance::Phase::starting && i->phase != Instance::Phase::ready)) return;
  if (i->drain == Instance::Drain::replaced) return;
  // Also one that drains already: it might be taken back.
  drain_instance(*i, Instance::Drain::replaced, reason, now, out);
  work(now, out);
}

void Scheduler::State::gone(Instance& i, base::TimePoint now, Actions& out) {
  if (i.phase == Instance::Phase::gone) return;
  Model& m = *i.model;
  Device& d = *i.device;
  leave_usable(i);
  if (i.phase == Instance::Phase::starting) --m.starting;
  i.phase = Instance::Phase::gone;
  i.device = nullptr;
  assert(d.reserved >= i.bytes);
  d.reserved -= i.bytes;
  take_out(d.instances, &i);
  take_out(m.instances, &i);
  touch(m);
  room_changed = true;
  if (i.in_flight == 0) instances.erase(i.id);
  fund(d, now, out);
}

}  // namespace thaw::control
