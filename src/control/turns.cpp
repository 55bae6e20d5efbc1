// Models that do not fit together take turns. Without turns one of two things happens: the busy one starves the other,
// or each request throws the other model out (thrash: all time goes into starts).
//
// A model "waits" from the moment it wants a replica and no device has room for it. One without any replica (or below its
// minReplicas) is entitled to others' places:
//   - an idle replica's at once, unless the waiting model was itself evicted a short while ago (they alternate): then the
//     replica keeps its turn, as long as it is not idle for longer than its own next start would take;
//   - a busy replica's when that has had its turn: turn(model) after both it was ready and the other began to wait.
//     It takes no more requests then, ends those it has, and stops.
// The one that has waited longest is served first. Others may use room that it cannot use, but only until it has waited
// turn_max: from then on one device is kept for it (pinned) and nobody younger gets in there.
//
// The line is in the order of waiting, where priority and shares count as time: 10 s a level, 10 s for each doubling of what a tenant had of the devices for
// its weight (up to 20 s either way). So nobody is overtaken by anybody who began to wait more than 2 * 10 s + 2 * 20 s = 60 s later. Turns are shorter against a
// higher priority and longer against a lower one, within turn_min and turn_max.
//
// Bound: the first of the line waits at most
//     2 * turn_max + start deadline (of a start that was under way when it was pinned) + request timeout (of the last
//     requests of those that leave) + their stop + its own start,
// and with n others in front of it n + 1 times that. What cannot be had at all (others' minReplicas) is refused at once.
#include <algorithm>

#include "control/state.h"

namespace thaw::control {

bool Scheduler::State::entitled(const Model& m) const { return m.replicas() < std::max(m.min_replicas(), 1U); }

base::Duration Scheduler::State::turn(const Model& m) const {
  const auto scaled = static_cast<std::int64_t>(static_cast<double>(m.start_cost().count()) * policy.turn_per_start_cost);
  return std::clamp(base::Duration(scaled), policy.turn_min, policy.turn_max);
}

/// The same, shorter by kLevelWorth for every level of priority that the challenger has more, and longer for every one that it has less.
base::Duration Scheduler::State::turn_against(const Instance& i, const Model& challenger) const {
  const double weight = worth_of(i.model->spec.priority) / worth_of(challenger.priority());
  const auto scaled = static_cast<std::int64_t>(static_cast<double>(turn(*i.model).count()) * weight);
  return std::clamp(base::Duration(scaled), policy.turn_min, policy.turn_max);
}

/// When a usable replica may make room for `challenger`; never() if not as things are. Idle ones of a lower priority may at once.
base::TimePoint Scheduler::State::evictable_at(const Instance& i, const Model& challenger) const {
  const Model& m = *i.model;
  const bool idle = i.in_flight == 0;
  const bool lower = m.spec.priority < challenger.priority();
  if (!challenger.waits_entitled) return idle ? i.idle_since + (lower ? base::Duration::zero() : policy.spare_after) : base::never();
  const base::Duration hold = turn_against(i, challenger);
  if (!idle) return std::max(i.turn_from, challenger.waiting_since) + hold;
  if (lower) return i.idle_since;
  const bool alternating = challenger.evicted_at && challenger.waiting_since < *challenger.evicted_at + hold * policy.alternating_turns;
  return alternating ? std::min(i.turn_from + hold, i.idle_since + m.start_cost()) : i.idle_since;
}

/// Who began to wait first has the next turn. A level of priority counts as kLevelWaits more of it; a tenant that had twice its share of the devices lately
/// counts as having come kShareWaits later, one that had half of it as much earlier, and so on up to twice that.
WaitOrder Scheduler::State::place_of(const Model& m, base::TimePoint now) {
  constexpr double kShareWaits_s = 10;
  const Request* const r = m.queue.first_retried() != nullptr ? m.queue.first_retried() : m.queue.first_fair();
  const Tenant& whose = r != nullptr ? *r->account : *m.owner;
  const double later_s = kShareWaits_s * overuse(whose, now) - level_of(m.priority()) * base::to_s(kLevelWaits);
  return {m.waiting_since + base::Duration(static_cast<std::int64_t>(later_s * 1e9)), next_waiter++};
}

/// Somebody came whose priority is higher than that of those who waited.
void Scheduler::State::move_up(Model& m, base::TimePoint now) {
  unpin(m);
  waiters.erase(m.waits_as);
  m.waits_as = place_of(m, now);
  m.waits_with = m.priority();
  waiters.emplace(m.waits_as, &m);
  look_everywhere(m);
}

void Scheduler::State::join_waiters(Model& m, base::TimePoint now) {
  m.waiting = true;
  m.waits_for_quota = false;
  m.waits_entitled = entitled(m);
  m.waiting_since = now;
  m.waits_as = place_of(m, now);
  m.waits_with = m.priority();
  m.chance_at = base::never();
  waiters.emplace(m.waits_as, &m);
  waiting_for.insert(m.bytes);
}

void Scheduler::State::leave_waiters(Model& m) {
  if (!m.waiting) return;
  for (Device* d : m.pinned) changed_on(*d);
  unpin(m);
  m.waiting = false;
  lookers -= m.looks_everywhere ? 1 : 0;
  m.looks_everywhere = false;
  waiters.erase(m.waits_as);
  waiting_for.erase(waiting_for.find(m.bytes));
}

/// Not only at what changed, when settle() comes to it.
void Scheduler::State::look_everywhere(Model& m) {
  room_changed = true;
  if (m.looks_everywhere) return;
  m.looks_everywhere = true;
  ++lookers;
}

void Scheduler::State::unpin(Model& m) {
  for (Device* d : m.pinned) {
    std::erase(d->pinned, &m);
    shortlist.changed(*d);
  }
  m.pinned.clear();
}

/// Bytes of `d` kept for those who were pinned to it before `m` came.
std::uint64_t Scheduler::State::pinned_by_others(const Device& d, const Model& m) const {
  std::uint64_t sum = 0;
  for (const Model* w : d.pinned) {
    if (m.waiting && m.waits_entitled && w->waits_as >= m.waits_as) break;
    if (w != &m) sum += w->bytes;
  }
  return sum;
}

void Scheduler::State::pin(Model& m, base::TimePoint now) {
  if (std::any_of(m.pinned.begin(), m.pinned.end(), [&](const Device* d) { return !can_ever_fit(*d, m); })) unpin(m);
  if (!m.waiting || !m.waits_entitled || !m.pinned.empty() || now < m.waiting_since + policy.turn_max) return;
  if (m.gang()) return pin_gang(m, now);
  base::TimePoint soonest = base::never();
  Device* best = nullptr;
  for (Device* d : places_for(m)) {  // where time alone makes room first
    if (!can_ever_fit(*d, m)) continue;
    const base::TimePoint at = offer(*d, m, nullptr, now).chance_at;
    if (best != nullptr && at >= soonest) continue;
    best = d;
    soonest = at;
  }
  if (best != nullptr) pin_to(m, {best});
}

void Scheduler::State::pin_to(Model& m, std::vector<Device*> where) {
  m.pinned = std::move(where);
  for (Device* d : m.pinned) {
    std::vector<Model*>& there = d->pinned;
    there.insert(std::upper_bound(there.begin(), there.end(), &m, [](const Model* a, const Model* b) { return a->waits_as < b->waits_as; }), &m);
    shortlist.changed(*d);
  }
}

}  // namespace thaw::control
