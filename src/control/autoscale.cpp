// How many replicas a model should have, and when one is too many.
#include <algorithm>
#include <cmath>
#include <limits>

#include "control/state.h"

namespace thaw::control {

namespace {

std::uint32_t replicas_for(std::uint64_t concurrency, const Model& m) {
  const std::uint64_t target = m.spec.scaling.target_concurrency;
  return static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>((concurrency + target - 1) / target, m.min_replicas(), m.spec.scaling.max_replicas));
}

}  // namespace

/// ceil((in flight + queued) / target), within min and max. A retried request takes a whole replica until it answers.
/// What is in flight on draining replicas needs no new one.
std::uint32_t Scheduler::State::desired(const Model& m) const {
  if (m.removed || draining) return 0;
  const std::uint32_t target = m.spec.scaling.target_concurrency;
  std::uint64_t load = m.queue.size();
  if (m.queue.first_retried() != nullptr) load += target - 1;
  for (const Instance* i : m.usable) load += i->exclusive ? target : i->in_flight;
  return std::max(replicas_for(load, m), m.summoned ? 1U : 0U);
}

/// Replicas to begin now. A model whose last start failed tries one at a time, after its back-off; one in standby can be woken meanwhile.
std::uint32_t Scheduler::State::missing(const Model& m, base::TimePoint now) const {
  const std::uint32_t want = desired(m);
  const std::uint32_t have = m.replicas() + thawing(m, now);
  if (want <= have) return 0;
  if (m.failures == 0 && now >= m.backoff_until) return std::min(want - have, worthwhile(m, now));
  if (m.coming() > 0) return 0;
  return now >= m.backoff_until || can_wake(m) ? 1 : 0;
}

/// More replicas than the present ones that requests would ever be sent to: those that still wait when another one is
/// up, with those that arrive until then at the rate of the panic window. None for a queue that the replicas that are
/// there, or come up before, have served by then.
std::uint32_t Scheduler::State::worthwhile(const Model& m, base::TimePoint now) const {
  const std::uint32_t any = std::numeric_limits<std::uint32_t>::max();
  const base::Duration up = can_wake(m) ? m.costs.wake.mean() : m.start_cost();
  const double service_s = base::to_s(m.service.value());
  if (m.replicas() == 0 || up <= base::Duration::zero() || service_s <= 0 || m.queue.first_retried() != nullptr)
    return any;
  const std::uint32_t target = m.spec.scaling.target_concurrency;
  double left = static_cast<double>(m.queue.size()) + m.burst.per_second(now) * base::to_s(up);
  for (const Instance* i : m.instances) {
    if (i->usable()) {
      left -= target * base::to_s(up) / service_s;
    } else if (i->rising()) {
      const base::Duration takes = i->phase == Phase::waking ? m.costs.wake.mean() : m.start_cost();
      left -= target * (1 + base::to_s(std::max(up - std::max(i->phase_since + takes - now, base::Duration::zero()),
                                                base::Duration::zero())) /
                                service_s);
    }
  }
  left -= static_cast<double>(target) * m.claimed();
  if (left <= 0 && m.min_replicas() <= m.replicas()) return 0;
  return std::max(static_cast<std::uint32_t>(std::ceil(std::max(left, 0.0) / target)),
                  m.min_replicas() - std::min(m.min_replicas(), m.replicas()));
}

/// Replicas idle for idleTimeout, counted from the end of their last request (from ready if they had none), are put to rest, down
/// to minReplicas. A starting one is never stopped for being idle: it becomes ready first and idles out then.
void Scheduler::State::stop_idle(Model& m, base::TimePoint now, Actions& out) {
  keep_with_tide(m, now);
  while (m.ready() > m.min_replicas()) {
    Instance* longest = nullptr;
    for (Instance* i : m.usable) {
      if (i->in_flight > 0 || idles_out_at(*i) > now) continue;
      if (longest == nullptr || i->idle_since <= longest->idle_since) longest = i;
    }
    if (longest == nullptr) return;
    rest(*longest, "idle", now, out);
  }
}

/// How far back a model's peak says how many replicas it keeps.
base::Duration Scheduler::State::peak_window(const spec::Scaling& scaling) const {
  constexpr base::Duration kStable = base::Seconds(60);
  return policy.automatic_idle ? std::min(scaling.idle_timeout, kStable) : scaling.idle_timeout;
}

/// A replica for a request that the forecast expects soon: only into room that nobody has to leave for it.
void Scheduler::State::wake_ahead(Model& m, base::TimePoint now, Actions& out) {
  if (m.expected_at > now) return;
  m.expected_at = base::never();
  if (m.quiet_since == base::never() || m.paused || draining || m.replicas() > 0 || m.in(Phase::freezing) > 0 ||
      now < m.backoff_until)
    return;
  Offer best = best_offer(m, places_for(m), now);
  if (best.rank != Offer::Rank::free) return;
  best.expects_until = m.quiet_since + m.plan.until;
  accept(best, m, now, out);
}

/// Replicas beyond what the peak of the last idleTimeout needed: the least loaded takes no more requests and stops when
/// those it has are done. The last one is left to stop_idle.
void Scheduler::State::scale_down(Model& m, base::TimePoint now, Actions& out) {
  if (m.ready() <= std::max(m.min_replicas(), 1U)) return;
  const std::uint32_t needed = std::max({replicas_for(m.peak.peak(now), m), desired(m), 1U});
  while (m.ready() > needed) {
    Instance* least = nullptr;
    for (Instance* i : m.usable) {
      if (least == nullptr || i->in_flight <= least->in_flight) least = i;
    }
    drain_instance(*least, Instance::Drain::scaled_down, "fewer requests", now, out);
  }
}

/// Demand came back before a scaled-down replica was stopped: cheaper than a new one.
void Scheduler::State::revive_scaled_down(Model& m, base::TimePoint now) {
  for (Instance* i : m.instances) {
    if (desired(m) <= m.replicas()) return;
    if (i->phase == Phase::ready && i->drain == Instance::Drain::scaled_down) revive(*i, now);
  }
}

void Scheduler::State::drop_surplus_claims(Model& m, base::TimePoint now, Actions& out) {
  while (!m.claims.empty() && m.replicas() > desired(m)) cancel_claim(m, *m.claims.back(), now, out);
}

/// When this model must be looked at again; never() for one that sleeps.
base::TimePoint Scheduler::State::wake_at(Model& m, base::TimePoint now) const {
  base::TimePoint at = std::min({m.queue.earliest_deadline(), m.snapshot_at, m.expected_at});
  for (const Instance* i : m.instances) {
    at = std::min(at, overdue_at(*i));
    if (i->health.ejected(now)) at = std::min(at, i->health.ejected_until);
    if (i->phase == Phase::standby && !i->wake_claimed) at = std::min(at, i->phase_since + m.spec.standby.timeout);
    if (i->phase == Phase::freezing && now < patience_ends(*i) && desired(m) > m.replicas()) at = std::min(at, patience_ends(*i));
  }
  if (m.backoff_until > now && desired(m) > m.replicas()) at = std::min(at, m.backoff_until);
  if (m.waiting) {
    at = std::min(at, m.chance_at);
    if (!tiny()) at = std::min(at, m.looked_at + policy.look_again_every);
    if (m.waits_entitled && m.pinned.empty() && m.waiting_since + policy.turn_max > now) {
      at = std::min(at, m.waiting_since + policy.turn_max);
    }
  }
  if (m.ready() > m.min_replicas()) {
    for (const Instance* i : m.usable) {
      if (i->in_flight == 0) at = std::min(at, idles_out_at(*i));
    }
  }
  if (m.ready() > std::max(m.min_replicas(), 1U)) at = std::min(at, m.peak.slice_end());
  for (const Device* d : m.claims) {
    for (const Instance* i : d->instances) {
      if (i->phase != Phase::stopping) continue;
      const base::TimePoint late = i->phase_since + policy.stop_grace + policy.stop_overdue;
      if (late > now) at = std::min(at, late);
    }
  }
  return at;
}

}  // namespace thaw::control
