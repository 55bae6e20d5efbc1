// Every state in which somebody else must act has a deadline. The node keeps it and reports; these are the ones for a node that does not.
#include "control/state.h"

#include "base/units.h"

namespace thaw::control {

/// A stop that takes far longer than it may: nobody counts on its bytes until they are really back.
bool Scheduler::State::late_to_stop(const Instance& i, base::TimePoint now) const {
  return i.phase == Phase::stopping && i.phase_since + policy.stop_grace + policy.stop_overdue <= now;
}

base::TimePoint Scheduler::State::overdue_at(const Instance& i) const {
  if (i.phase_deadline <= base::Duration::zero()) return base::never();
  return i.phase_since + i.phase_deadline + policy.answer_overdue;
}

/// Stops what should long have changed its state, and takes that for a failure of what it was doing.
void Scheduler::State::end_overdue(Model& m, base::TimePoint now, Actions& out) {
  const std::vector<Instance*> all = m.instances;
  for (Instance* i : all) {
    if (overdue_at(*i) > now) continue;
    const Phase was = i->phase;
    i->reason = std::string(to_string(was)) + " for more than " + base::format_duration(i->phase_deadline) + ", and no word from its node";
    m.last_failure = i->reason;
    i->cause = {Rule::overdue};
    stop(*i, now, out, Trigger::overdue);
    if (was == Phase::starting) {
      restore_failed(*i, now, out);
      start_failed(m, *i, now, out);
    } else if (was != Phase::imaging) {
      rest_failed(*i, was);
    }
    for (const Device* d : i->devices) look_at_claims(*d);
  }
}

}  // namespace thaw::control
