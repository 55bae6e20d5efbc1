// A request's way: arrival, dispatch, answer, end, failure. The first and the last two are the hot path.
#include <algorithm>
#include <cassert>

#include "control/priority.h"
#include "control/state.h"

namespace thaw::control {

void Scheduler::State::arrive(const Arrival& a, base::TimePoint now, Actions& out) {
  const auto found = models.find(a.model);
  if (draining || found == models.end()) {
    Refuse refusal{a.request, Refuse::Why::draining, "the server is shutting down; retry in a moment", base::Seconds(5)};
    if (!draining) refusal = {a.request, Refuse::Why::model_removed, "model " + base::public_model(a.model) + " does not exist", {}};
    out.emplace_back(std::move(refusal));
    return;
  }
  Model& m = *found->second;
  Tenant& whose = tenant(a.tenant);
  if (exhausted(whose, now)) {
    out.emplace_back(exhausted_refusal(a.request, whose, now));
    return;
  }
  note_arrival(m, now);
  m.paused = false;
  const auto [at, fresh] = requests.try_emplace(a.request);
  assert(fresh && "a request id was used twice");
  if (!fresh) return;
  Request& r = at->second;
  r.id = a.request;
  r.model = &m;
  r.queued_at = now;
  r.account = &whose;
  r.affinity = affinity_with(a.affinity, a.adapter);
  r.adapter = a.adapter;
  m.retries.earn();
  if (m.queue.empty()) {
    if (Instance* i = pick(r, false, now)) {
      dispatch(r, *i, false, now, out);
      m.peak.note(now, m.in_flight);
      return;
    }
  }
  r.tenant = a.tenant;
  r.priority = priority_of(a.priority, whose.policy.max_priority, m.spec.priority);
  r.deadline = now + m.spec.scaling.queue.timeout;
  if (auto refusal = refusal_at_the_door(m, r.id, now)) {
    requests.erase(at);
    out.emplace_back(*std::move(refusal));
    return;
  }
  m.queue.push(r, whose.policy.weight);
  if (m.waits_for_quota) look_everywhere(m);  // this one's tenant may hold more
  m.peak.note(now, m.in_flight + m.waiting_requests());
  touch(m);
  work(now, out);
}

/// Also counts how often affinity was followed.
Instance* Scheduler::State::pick(const Request& r, bool keep_least, base::TimePoint now) {
  const Model& m = *r.model;
  bool first_choice = false;
  Instance* const i = pick_slot(m, r.affinity, r.id, keep_least, now, &first_choice, r.adapter);
  if (i != nullptr && r.affinity != 0 && m.usable.size() > 1) ++(first_choice ? totals.affinity_followed : totals.affinity_spilled);
  return i;
}

void Scheduler::State::dispatch(Request& r, Instance& i, bool waited, base::TimePoint now, Actions& out) {
  assert(i.usable() && i.in_flight < i.model->spec.scaling.target_concurrency);
  bill(i, now);
  used_by(i, *r.account, now);
  r.instance = &i;
  r.billed_from = i.given;
  r.dispatched_at = now;
  ++r.attempts;
  if (i.in_flight++ == 0) {
    for (Device* d : i.devices) shortlist.changed(*d);
  }
  ++i.model->in_flight;
  ++in_flight;
  i.used = true;
  i.exclusive = r.retried;
  const bool cold = waited && i.ready_at >= r.queued_at;
  out.emplace_back(std::in_place_type<Dispatch>, r.id, i.id, cold, now - r.queued_at);
}

void Scheduler::State::dispatch_queue(Model& m, base::TimePoint now, Actions& out) {
  while (Request* r = m.queue.first_retried()) {
    Instance* const i = pick_empty(m, now);
    if (i == nullptr) break;
    m.queue.take(*r);
    dispatch(*r, *i, true, now, out);
  }
  const bool keep_least = m.queue.first_retried() != nullptr;
  while (Request* r = m.queue.first_fair()) {
    Instance* const i = pick(*r, keep_least, now);
    if (i == nullptr) break;
    m.queue.take(*r);
    dispatch(*r, *i, true, now, out);
  }
}

void Scheduler::State::answering(base::RequestId id, base::TimePoint now) {
  const auto found = requests.find(id);
  if (found == requests.end() || found->second.instance == nullptr) return;
  Request& r = found->second;
  note_first_byte(r, now);
  Model& m = *r.model;
  if (!r.answering) m.first_answer.note(now - r.dispatched_at);
  r.answering = true;
  if (m.backoff_step > 0 && r.instance->usable()) succeeded(m);
  if (!r.instance->exclusive) return;
  r.instance->exclusive = false;
  if (!m.queue.empty()) timers.arm_at_latest(m.timer, now);
}

void Scheduler::State::note_first_byte(Request& r, base::TimePoint now) const {
  if (r.answering) return;
  const base::Duration took = now - r.dispatched_at;
  r.slow = answers_slowly(*r.instance, took);
  r.instance->health.first_byte.note(took);
}

void Scheduler::State::engine_error(base::RequestId id) {
  const auto found = requests.find(id);
  if (found != requests.end()) found->second.engine_error = true;
}

/// Takes a dispatched request off its instance. The instance may be stopped or forgotten by this.
void Scheduler::State::release(Request& r, base::TimePoint now, Actions& out) {
  Instance& i = *r.instance;
  Model& m = *r.model;
  assert(i.in_flight > 0 && m.in_flight > 0 && in_flight > 0);
  m.peak.note(now, m.in_flight);  // also what began long ago was needed until now
  bill(r, now);
  r.instance = nullptr;
  --i.in_flight;
  --m.in_flight;
  --in_flight;
  ++i.served;
  i.exclusive = false;
  if (m.in_flight == 0 && m.queue.empty()) {
    m.quiet_since = now;
    think_of_keeping(m, now);
  }
  if (i.in_flight > 0) return;
  i.idle_since = now;
  for (Device* d : i.devices) shortlist.changed(*d);
  if (i.phase == Phase::gone) {
    instances.erase(i.id);
  } else if (i.phase == Phase::ready && i.drain == Instance::Drain::evicted) {
    make_way(i, i.reason, now, out);
  } else if (i.phase == Phase::ready && i.drain != Instance::Drain::none) {
    stop(i, now, out);
  } else if (i.phase == Phase::ready) {
    timers.arm_at_latest(m.timer, idles_out_at(i));
    if (!waiters.empty()) {
      for (Device* d : i.devices) offer_idle_room(*d, now);
    }
    if (m.keeps <= base::Duration::zero()) touch(m);
  }
}

/// A replica idled while others wait for room. Busy ones do that thousands of times a second: one look a millisecond is
/// enough for those who wait, and bounds what it costs however many they are.
void Scheduler::State::offer_idle_room(Device& d, base::TimePoint now) {
  if (!d.changed) {
    d.changed = true;
    changed.push_back(&d);
  }
  constexpr base::Duration kEvery = base::Millis(1);
  if (now >= settled_at + kEvery) {
    room_changed = true;
  } else {
    timers.arm_at_latest(settle_timer, settled_at + kEvery);
  }
}

void Scheduler::State::ended(base::RequestId id, base::TimePoint now, Actions& out) {
  const auto found = requests.find(id);
  if (found == requests.end()) return;
  Request& r = found->second;
  Model& m = *r.model;
  if (r.instance == nullptr) {
    m.queue.remove(r);
    touch(m);
  } else {
    if (r.answering) {
      m.service.note(now - r.dispatched_at);
      judge_answer(*r.instance, r.engine_error || r.slow, now, out);
    }
    release(r, now, out);
    if (!m.queue.empty()) dispatch_queue(m, now, out);
    if (m.waiting || !m.claims.empty() || !m.queue.empty()) touch(m);  // it may need less now, or more after all
  }
  requests.erase(found);
  if (!dirty.empty() || room_changed || !retired.empty()) work(now, out);
}

void Scheduler::State::failed(base::RequestId id, RequestFailure failure, base::TimePoint now, Actions& out) {
  const auto found = requests.find(id);
  if (found == requests.end() || found->second.instance == nullptr) return;
  Request& r = found->second;
  Model& m = *r.model;
  Instance& i = *r.instance;
  const bool retry = !r.answering;
  const bool killed = i.killed;
  // A replica that lost a request before its first byte, or hangs, gets no more; those it still answers may end.
  if (i.phase == Phase::ready && (retry || failure != RequestFailure::cut)) {
    const char* const words = failure == RequestFailure::stalled ? "stalled" : "closed the connection";
    if (!settled(i, now)) back_off(m, i, now);
    m.last_failure = std::string("a replica ") + words;
    drain_instance(i, Instance::Drain::suspect, std::string("suspect: it ") + words, now, out);
  }
  release(r, now, out);
  touch(m);
  if (!retry) {
    requests.erase(found);
  } else if (m.removed) {
    refuse(r, Refuse::Why::model_removed, "model " + m.name() + " was removed", {}, out);
  } else if (draining) {
    refuse(r, Refuse::Why::draining, "the server is shutting down; retry in a moment", base::Seconds(5), out);
  } else if (killed) {
    refuse(r, Refuse::Why::replica_failed, "model " + m.name() + " was stopped by an operator", base::Seconds(1), out);
  } else if (r.attempts < policy.max_attempts && !m.retries.take(now, m.peak.peak(now))) {
    ++totals.retries_denied;
    refuse(r, Refuse::Why::replica_failed,
           "the replica failed, and so many requests to model " + m.name() + " failed that no more of them are tried again; last: " + m.last_failure,
           base::Seconds(1), out);
  } else if (r.attempts >= policy.max_attempts) {
    refuse(r, Refuse::Why::replica_failed,
           "the replica failed " + std::to_string(r.attempts) + " times under this request; last: " + m.last_failure, {}, out);
  } else {
    ++totals.retries;
    r.queued_at = now;
    r.deadline = now + m.spec.scaling.queue.timeout;
    m.queue.push_retried(r);
    m.peak.note(now, m.in_flight + m.waiting_requests());
  }
  work(now, out);
}

}  // namespace thaw::control
