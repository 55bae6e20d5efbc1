// How long an idle replica keeps its device, from pause to pause: what is planned when one begins, what is learnt when
// it ends.
#include <algorithm>

#include "control/state.h"

namespace thaw::control {

/// A pause begins. idleTimeout, or what pauses and costs say. Nothing is known of a model that never came up:
/// idleTimeout then.
void Scheduler::State::think_of_keeping(Model& m, base::TimePoint now) const {
  const spec::Scaling& scaling = m.spec.scaling;
  m.keeps = scaling.idle_timeout;
  m.pause_costs = {};
  m.expected_at = base::never();
  m.follows_tide = false;
  if (!policy.automatic_idle) return;
  const bool wakes = m.rests_in_standby && m.costs.wake.known();
  const base::Duration up = wakes ? m.costs.wake.mean() : m.start_cost();
  if (up <= base::Duration::zero()) return;
  m.pause_costs = {wakes ? m.costs.freeze.mean() : base::Duration::zero(), up};
  m.plan = m.by_pauses = policy.forecasts ? m.forecast.plan(first_pauses, m.pause_costs) : reactive_plan(m.pause_costs);
  m.follows_tide = policy.forecasts && m.forecast.trusted() && (is_new(m) ? preference.known() && preference.tide() : m.preference.tide());
  if (m.follows_tide) m.plan = {tide_lasts(m, now), {}, {}};
  m.plan.keep = m.keeps = std::min(scaling.idle_timeout, m.plan.keep);
  if (m.plan.prewakes() && m.quiet_since != base::never()) m.expected_at = m.quiet_since + m.plan.from - up;
}

/// Too little is known of its own pauses to believe them.
bool Scheduler::State::is_new(const Model& m) {
  return m.forecast.pauses().total() < kPausesToBelieve;
}

/// Of all that is asked for.
double Scheduler::State::share_of(const Model& m, base::TimePoint now) const {
  const double all = all_arrivals.per_second(now);
  return all > 0 ? m.steady.per_second(now) / all : 0;
}

/// Kept while so much comes to all models that a request to this one is likely within the break-even: were requests
/// independent of one another, no rule would do better.
base::Duration Scheduler::State::tide_lasts(const Model& m, base::TimePoint now) const {
  const base::Duration even = m.pause_costs.break_even();
  return std::min<base::Duration>(tide.lasts(share_of(m, now), even, now), kLongestKeep * even);
}

/// One that was kept with the tide would leave now: it stays for longer if more came meanwhile.
void Scheduler::State::keep_with_tide(Model& m, base::TimePoint now) const {
  constexpr base::Duration kLeast = base::Millis(50);  // no look more often than that
  if (!m.follows_tide || m.quiet_since == base::never() || now < m.quiet_since + m.keeps) return;
  const base::Duration longer = tide_lasts(m, now);
  const base::Duration most =
      std::min<base::Duration>(kLongestKeep * m.pause_costs.break_even(), m.spec.scaling.idle_timeout);
  if (longer <= base::Duration::zero() || m.keeps >= most) return;
  m.plan.keep = m.keeps = std::min<base::Duration>(now - m.quiet_since + std::max(longer, kLeast), most);
}

void Scheduler::State::note_arrival(Model& m, base::TimePoint now) {
  m.rate.note(now);
  m.burst.note(now);
  pause_ended(m, now);
  tide.note(now);
  all_arrivals.note(now);
  m.steady.note(now);
}

/// The next request is there: what the pause was is learnt, and what it would have cost by either forecast.
void Scheduler::State::pause_ended(Model& m, base::TimePoint now) {
  if (m.quiet_since == base::never()) return;
  const base::Duration pause = now - m.quiet_since;
  const bool was_new = is_new(m);
  if (was_new) first_pauses.note(pause);
  m.forecast.note(pause, m.plan, m.pause_costs);
  if (m.pause_costs.up > base::Duration::zero()) {
    const base::Duration even = m.pause_costs.break_even();
    const base::Duration lasted = tide.lasted(share_of(m, now), even, m.quiet_since, now);
    const double by_pauses_s = cost_of_pause_s(m.by_pauses, pause, m.pause_costs);
    const double by_tide_s =
        cost_of_pause_s({std::min<base::Duration>(lasted, kLongestKeep * even), {}, {}}, pause, m.pause_costs);
    (was_new ? preference : m.preference).note(by_pauses_s, by_tide_s);
  }
  m.quiet_since = m.expected_at = base::never();
}

/// One beyond those that its model needs now leaves sooner than the last one: a request that comes finds another
/// replica.
base::TimePoint Scheduler::State::idles_out_at(const Instance& i) {
  constexpr int kSooner = 8;
  const Model& m = *i.model;
  const bool spare = m.ready() > 1 && m.pause_costs.up > base::Duration::zero();
  const base::Duration keeps =
      spare ? std::min<base::Duration>(m.keeps, m.pause_costs.break_even() / kSooner) : m.keeps;
  return std::max(i.idle_since + keeps, i.rest_at);
}

}  // namespace thaw::control
