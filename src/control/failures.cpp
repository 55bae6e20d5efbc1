// Failed starts and crash loops: tried again ever more slowly, and said so once it is clear.
#include <algorithm>

#include "control/state.h"

namespace thaw::control {

/// Holds the model's next start back, twice as long each time. Replicas that were begun before the last failure belong
/// to the same episode: one cause that hits four replicas at once is one failure. Later ones settle or count anew.
void Scheduler::State::back_off(Model& m, const Instance& i, base::TimePoint now) {
  const bool same_episode = m.backoff_step > 0 && i.begun_at < m.failed_at;
  if (same_episode || m.removed) return;
  base::Duration delay = policy.backoff_first;
  for (std::uint32_t n = 0; n < m.backoff_step && delay < policy.backoff_max; ++n) delay *= 2;
  ++m.backoff_step;
  m.failed_at = now;
  m.backoff_until = now + std::min(delay, policy.backoff_max);
}

/// Whether it ran long enough after it was ready for its end to say nothing about the next start.
bool Scheduler::State::settled(const Instance& i, base::TimePoint now) const {
  return i.was_ready && now - i.ready_at >= policy.settled_after;
}

void Scheduler::State::start_failed(Model& m, Instance& i, base::TimePoint now, Actions& out) {
  ++m.start_failures;
  m.failed_on = i.device;
  if (!m.removed) failing.insert(&m);
  const bool same_episode = m.failures > 0 && i.begun_at < m.failed_at;
  if (!same_episode) ++m.failures;
  back_off(m, i, now);
  m.summoned = false;
  drop_claims(m, now, out);
  if (m.failures < policy.start_failures_before_refusing || m.ready() > 0 || m.rising() > 0) return;
  refuse_all(m, Refuse::Why::start_failed,
             "model " + m.name() + " does not start (" + std::to_string(m.failures) + " times in a row): " + m.last_failure,
             retry_after(m, now), out);
}

void Scheduler::State::succeeded(Model& m) {
  m.failures = 0;
  m.backoff_step = 0;
  m.backoff_until = {};
  m.failed_on = nullptr;
  failing.erase(&m);
}

}  // namespace thaw::control
