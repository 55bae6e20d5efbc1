// What is said to those who are turned away, and when they should come again.
#include <algorithm>

#include "base/units.h"
#include "control/state.h"

namespace thaw::control {

const char* to_string(Refuse::Why why) {
  switch (why) {
    case Refuse::Why::queue_full: return "queue_full";
    case Refuse::Why::queue_timeout: return "queue_timeout";
    case Refuse::Why::no_capacity: return "no_capacity";
    case Refuse::Why::start_failed: return "start_failed";
    case Refuse::Why::replica_failed: return "replica_failed";
    case Refuse::Why::model_removed: return "model_removed";
    case Refuse::Why::draining: return "draining";
    case Refuse::Why::tenant_quota: return "tenant_quota";
  }
  return "unknown";
}

namespace {

/// How many may wait. maxLength, but never fewer than the replicas on their way will take at once; while none is on its
/// way and the model may grow, one is about to be. So maxLength 0 means: wait for a start, never behind others.
std::size_t queue_bound(const Model& m) {
  const spec::Scaling& s = m.spec.scaling;
  const std::uint32_t coming = m.coming() > 0 || m.ready() >= s.max_replicas ? m.coming() : 1;
  return std::max<std::size_t>(s.queue.max_length, std::size_t{coming} * s.target_concurrency);
}

}  // namespace

/// Why a request that finds no free slot need not even wait; nothing: it may.
std::optional<Refuse> Scheduler::State::refusal_at_the_door(const Model& m, base::RequestId request, base::TimePoint now) const {
  const bool backing_off = m.replicas() == 0 && m.backoff_until > now + m.spec.scaling.queue.timeout;
  if (backing_off) return Refuse{request, Refuse::Why::start_failed, "model " + m.name() + " does not start: " + m.last_failure, retry_after(m, now)};
  if (m.queue.size() < queue_bound(m)) return std::nullopt;
  return Refuse{request, Refuse::Why::queue_full,
                "model " + m.name() + " is busy and its queue is full (" + std::to_string(m.queue.size()) +
                    " waiting); retry later or raise scaling.queue.maxLength",
                retry_after(m, now)};
}

/// The request must be off its instance; if it is in its model's queue, the caller has taken it out.
void Scheduler::State::refuse(Request& r, Refuse::Why why, std::string message, base::Duration after, Actions& out) {
  const base::RequestId id = r.id;
  out.emplace_back(std::in_place_type<Refuse>, id, why, std::move(message), after);
  requests.erase(id);
}

void Scheduler::State::refuse_all(Model& m, Refuse::Why why, const std::string& message, base::Duration after, Actions& out) {
  while (Request* r = m.queue.any()) {
    m.queue.remove(*r);
    refuse(*r, why, message, after, out);
  }
}

void Scheduler::State::refuse_overdue(Model& m, base::TimePoint now, Actions& out) {
  if (m.queue.overdue(now) == nullptr) return;
  const base::Duration after = retry_after(m, now);
  while (Request* r = m.queue.overdue(now)) {
    m.queue.remove(*r);
    std::string message = "model " + m.name() + ": no answer began within " + base::format_duration(now - r->queued_at);
    auto why = Refuse::Why::queue_timeout;
    if (m.failures > 0 && m.ready() == 0) {
      why = Refuse::Why::start_failed;
      message += "; it does not start: " + m.last_failure;
    } else if (m.waits_for_quota && m.ready() == 0 && r->account->policy.max_devices) {
      why = Refuse::Why::tenant_quota;
      message += "; tenant " + r->account->policy.tenant.str() + " holds all the devices that it may hold at once";
    } else if (m.waiting || (m.ready() == 0 && m.rising() + m.in(Phase::freezing) == 0)) {
      message += "; other models are busy on its device";
    } else if (m.ready() == 0) {
      message += "; it is still starting";
    } else {
      message += "; its replicas are busy: retry later or raise scaling.maxReplicas";
    }
    refuse(*r, why, std::move(message), after, out);
  }
}

/// An estimate from what is known, within the 1 to 60 s that clients honour.
base::Duration Scheduler::State::retry_after(const Model& m, base::TimePoint now) const {
  base::Duration wait = m.start_cost();
  if (m.backoff_until > now) {
    wait += m.backoff_until - now;
  } else if (m.waiting && m.chance_at != base::never()) {
    wait += m.chance_at - now;
  } else if (m.ready() > 0) {
    const std::uint64_t slots = std::uint64_t{m.ready()} * m.spec.scaling.target_concurrency;
    wait = m.service.value() * static_cast<std::int64_t>((m.queue.size() + m.in_flight + slots) / slots);
  }
  return std::clamp<base::Duration>(wait, base::Seconds(1), base::Seconds(60));
}

}  // namespace thaw::control
