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

/// When a usable replica may make room for `challenger`; never() if not as things are.
base::TimePoint Scheduler::State::evictable_at(const Instance& i, const Model& challenger) const {
  const Model& m = *i.model;
  const bool idle = i.in_flight == 0;
  if (!challenger.waits_entitled) return idle ? i.idle_since + policy.spare_after : base::never();
  const base::Duration hold = turn(m);
  if (!idle) return std::max(i.turn_from, challenger.waiting_since) + hold;
  const bool alternating = challenger.evicted_at && challenger.waiting_since < *challenger.evicted_at + hold * policy.alternating_turns;
  return alternating ? std::min(i.turn_from + hold, i.idle_since + m.start_cost()) : i.idle_since;
}

void Scheduler::State::join_waiters(Model& m, base::TimePoint now) {
  m.waiting = true;
  m.waits_as = next_waiter++;
  m.waits_entitled = entitled(m);
  m.waiting_since = now;
  m.chance_at = base::never();
  waiters.emplace(m.waits_as, &m);
  waiting_for.insert(m.bytes);
}

void Scheduler::State::leave_waiters(Model& m) {
  if (!m.waiting) return;
  if (m.pinned != nullptr) changed_on(*m.pinned);
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
  if (m.pinned == nullptr) return;
  std::erase(m.pinned->pinned, &m);
  shortlist.changed(*m.pinned);
  m.pinned = nullptr;
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
  if (m.pinned != nullptr && !can_ever_fit(*m.pinned, m)) unpin(m);
  if (!m.waiting || !m.waits_entitled || m.pinned != nullptr || now < m.waiting_since + policy.turn_max) return;
  base::TimePoint soonest = base::never();
  Device* best = nullptr;
  for (Device* d : places_for(m)) {  // where time alone makes room first
    if (!can_ever_fit(*d, m)) continue;
    const base::TimePoint at = offer(*d, m, nullptr, now).chance_at;
    if (best != nullptr && at >= soonest) continue;
    best = d;
    soonest = at;
  }
  if (best == nullptr) return;
  m.pinned = best;
  std::vector<Model*>& there = best->pinned;
  there.insert(std::upper_bound(there.begin(), there.end(), &m, [](const Model* a, const Model* b) { return a->waits_as < b->waits_as; }), &m);
  shortlist.changed(*best);
}

}  // namespace thaw::control
