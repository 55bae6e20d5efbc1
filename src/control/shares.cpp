// What follows from what tenants hold: who has more than its share of the devices goes behind others and makes room first; who holds as many devices as it
// may gets no more.
#include <algorithm>
#include <cmath>
#include <iterator>

#include "control/state.h"

namespace thaw::control {

namespace {

constexpr double kRounding = 1e-6;

/// What it makes a tenant hold more, in whole devices: of one that is woken also what it holds already, if that is somebody else's.
double devices_for(const Tenant& t, const Offer& o) {
  const std::uint64_t taken_over = o.wake != nullptr && o.wake->tenant != &t ? o.wake->bytes : 0;
  double sum = 0;
  for (const Device* d : o.devices())
    sum += static_cast<double>(o.need + taken_over) / static_cast<double>(std::max<std::uint64_t>(d->info.budget_bytes, 1));
  return sum;
}

}  // namespace

/// log2 of what it held lately for its weight, against what all that compete with it did for theirs: 0: its share, 1: twice as much. Within -2 and 2.
/// What all did is added up anew only every so often: there may be thousands of tenants, and many who ask.
double Scheduler::State::overuse(const Tenant& t, base::TimePoint now) const {
  constexpr double kMost = 2, kLittle = 1e-3;
  constexpr base::Duration kFresh = base::Millis(100);
  ActiveTotals& all = active_totals;
  if (all.at == base::never() || now >= all.at + kFresh || all.of != active.size()) {
    all = {now, 0, 0, 0, active.size()};
    for (const Tenant* each : active) {
      const double held = lately(*each, now);
      if (held < kLittle) continue;
      all.held += held;
      all.weights += each->policy.weight;
      ++all.count;
    }
  }
  const double own = lately(t, now);
  const bool counted = own >= kLittle;
  if (all.count == 0 || (counted && all.count == 1)) return 0;
  const double fair = all.held / (all.weights + (counted ? 0 : t.policy.weight));
  if (!counted || fair <= 0) return -kMost;
  return std::clamp(std::log2(own / t.policy.weight / fair), -kMost, kMost);
}

/// By what a replica's worth is multiplied where somebody has to make room: its model's priority, and whether its tenant has more than its share.
double Scheduler::State::standing(const Instance& i, base::TimePoint now) const {
  const double over = i.tenant == nullptr || active.size() < 2 ? 0 : std::max(overuse(*i.tenant, now), 0.0);
  return worth_of(i.model->spec.priority) * std::exp2(-over);
}

bool Scheduler::State::within_quota(const Tenant& t, double more) const {
  return !t.policy.max_devices || t.devices + more <= *t.policy.max_devices + kRounding;
}

/// For whom a replica is begun: whose request has the next turn of those that may hold as much more; null: nobody may.
Tenant* Scheduler::State::payer(const Model& m, const Offer& o) const {
  const auto may = [&](Tenant& t) { return within_quota(t, devices_for(t, o)) ? &t : nullptr; };
  if (const Request* r = m.queue.first_retried()) {
    if (Tenant* t = may(*r->account)) return t;
  }
  for (const Lane& lane : m.queue.lanes()) {
    if (Tenant* t = may(*lane.first()->account)) return t;
  }
  if (!m.queue.empty()) return nullptr;
  return may(*m.owner);
}

/// Whether it may never hold as much, however little else it holds.
bool Scheduler::State::beyond_quota(const Tenant& t, const Offer& o) {
  return t.policy.max_devices && devices_for(t, o) > *t.policy.max_devices + kRounding;
}

/// Who may never hold as much as a replica takes is not kept waiting for one.
void Scheduler::State::refuse_beyond_quota(Model& m, const Offer& o, Actions& out) {
  const auto never = [&](const Request* r) { return beyond_quota(*r->account, o); };
  std::vector<Request*> in_vain;
  std::copy_if(m.queue.retried().begin(), m.queue.retried().end(), std::back_inserter(in_vain), never);
  for (const Lane& lane : m.queue.lanes()) {
    for (const std::list<Request*>& line : lane.waiting) std::copy_if(line.begin(), line.end(), std::back_inserter(in_vain), never);
  }
  for (Request* r : in_vain) {
    m.queue.remove(*r);
    refuse(*r, Refuse::Why::tenant_quota,
           "a replica of model " + m.name() + " takes more of the devices than tenant " + r->account->policy.tenant.str() + " may hold at once", {}, out);
  }
  if (!in_vain.empty()) touch(m);
}

/// Whoever has the next turn gives up an idle replica of its own for another one, as anybody else's is none of its room.
void Scheduler::State::make_quota_room(const Model& m, const Offer& o, base::TimePoint now, Actions& out) {
  const Request* const r = m.queue.first_retried() != nullptr ? m.queue.first_retried() : m.queue.first_fair();
  Tenant& whose = r != nullptr ? *r->account : *m.owner;
  keep_to_quota(whose, devices_for(whose, o), &m, now, out);
}

/// Its idle replicas that are worth least leave until it may hold so much `more`, as far as that is in reach.
void Scheduler::State::keep_to_quota(Tenant& t, double more, const Model* for_whom, base::TimePoint now, Actions& out) {
  if (within_quota(t, more)) return;
  double over = t.devices + more - *t.policy.max_devices;
  std::vector<Candidate> idle;
  for (const auto& [id, i] : t.instances) {
    if (i->phase == Phase::stopping || i->phase == Phase::freezing || (i->phase == Phase::ready && !i->usable())) over -= held_devices(*i);
    const bool rests = i->phase == Phase::standby && !i->wake_claimed && i->bytes > 0;
    const bool spare = i->usable() && i->in_flight == 0 && i->model->ready() > i->model->min_replicas();
    if (i->model != for_whom && (rests || spare)) idle.push_back({i, i->bytes, i->model->rate.per_second(now) * base::to_s(i->model->start_cost()), i->idle_since, now});
  }
  std::stable_sort(idle.begin(), idle.end(), [](const Candidate& a, const Candidate& b) {
    return a.value != b.value ? a.value < b.value : a.idle_since < b.idle_since;
  });
  for (const Candidate& c : idle) {
    if (over <= kRounding) return;
    Instance& i = *c.instance;
    if (i.usable() && i.model->ready() <= i.model->min_replicas()) continue;
    over -= held_devices(i);
    ++i.model->evictions;
    drain_instance(i, Instance::Drain::evicted, "tenant " + t.policy.tenant.str() + " may hold no more devices", now, out);
  }
}

}  // namespace thaw::control
