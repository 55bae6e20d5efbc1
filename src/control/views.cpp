// Copies of the books for people and metrics, in a fixed order.
#include <algorithm>
#include <map>

#include "control/state.h"

namespace thaw::control {

namespace {

InstanceState shown(const Instance& i) {
  switch (i.phase) {
    case Phase::starting: return InstanceState::starting;
    case Phase::ready: return i.usable() ? InstanceState::ready : InstanceState::stopping;
    case Phase::freezing: return InstanceState::freezing;
    case Phase::standby: return InstanceState::standby;
    case Phase::waking: return InstanceState::waking;
    case Phase::imaging: return InstanceState::imaging;
    case Phase::stopping:
    case Phase::gone: break;
  }
  return InstanceState::stopping;
}

}  // namespace

std::vector<InstanceView> Scheduler::instances() const {
  std::vector<InstanceView> views;
  for (const auto& [id, i] : state_->instances) {
    if (i->phase == Phase::gone) continue;
    InstanceView v;
    v.instance = id;
    v.model = i->model->spec.name;
    v.node = i->device->node;
    v.device = i->device->info.id;
    for (const Device* d : i->devices) v.devices.push_back(d->info.id);
    v.state = shown(*i);
    v.device_bytes = i->bytes * i->devices.size();
    v.host_bytes = i->host_bytes;
    v.way = i->way;
    v.image = i->image;
    v.in_flight = i->in_flight;
    v.served = i->served;
    v.ejected_until = i->health.ejected_until;
    v.since = i->begun_at;
    v.idle_since = i->usable() && i->in_flight == 0 ? i->idle_since : base::never();
    v.reason = i->reason;
    views.push_back(std::move(v));
  }
  std::sort(views.begin(), views.end(), [](const InstanceView& a, const InstanceView& b) { return a.instance < b.instance; });
  return views;
}

std::vector<ModelView> Scheduler::models() const {
  std::vector<ModelView> views;
  views.reserve(state_->models.size());
  for (const auto& [name, m] : state_->models) {
    ModelView v;
    v.model = name;
    v.ready = m->ready();
    v.starting = m->in(Phase::starting);
    v.waking = m->in(Phase::waking);
    v.freezing = m->in(Phase::freezing);
    v.standby = m->in(Phase::standby);
    v.stopping = m->in(Phase::stopping) + m->in(Phase::ready) - m->ready();
    v.images = static_cast<std::uint32_t>(m->images.size());
    for (const Image* image : m->images) v.image_bytes += image->info.bytes;
    v.in_flight = m->in_flight;
    v.queued = m->waiting_requests();
    v.cold_starts = m->cold_starts;
    v.start_failures = m->start_failures;
    v.evictions = m->evictions;
    v.ejections = m->ejections;
    v.backoff_until = m->backoff_until;
    v.last_failure = m->last_failure;
    v.start_cost = m->costs.start.mean();
    v.costs = m->costs;
    v.wakes = m->wakes;
    v.restores = m->restores;
    v.freezes = m->freezes;
    v.wake_failures = m->wake_failures;
    v.restore_failures = m->restore_failures;
    v.freeze_failures = m->freeze_failures;
    v.snapshot_failures = m->snapshot_failures;
    v.rests = m->rests;
    v.last_snapshot_failure = m->last_snapshot_failure;
    views.push_back(std::move(v));
  }
  std::sort(views.begin(), views.end(), [](const ModelView& a, const ModelView& b) { return a.model < b.model; });
  return views;
}

std::vector<DeviceView> Scheduler::devices() const {
  std::vector<DeviceView> views;
  views.reserve(state_->devices.size());
  for (const auto& d : state_->devices) views.push_back({d->node, d->info, d->reserved, d->duty});
  return views;
}

std::vector<NodeView> Scheduler::nodes() const {
  std::vector<NodeView> views;
  for (const auto& n : state_->nodes)
    views.push_back({n->name, n->host_reserved, n->host_budget, n->image_reserved, n->image_budget, n->drivers, n->domain_name});
  return views;
}

std::vector<ImageView> Scheduler::images() const {
  std::vector<ImageView> views;
  for (const auto& n : state_->nodes) {
    for (const auto& [id, image] : n->images) views.push_back({n->name, image->info, image->restores, image->dropping});
  }
  return views;
}

/// Whatever is not billed yet, billed as if it ended now.
std::vector<TenantView> Scheduler::tenants(base::TimePoint now) const {
  std::map<base::TenantName, TenantView> views;
  for (const auto& [name, t] : state_->tenants) {
    const bool day_over = t->day_ends <= now;
    views[name] = {t->policy, t->devices, t->used, day_over ? 0 : t->today, t->day_ends, t->exhausted && !day_over};
  }
  const auto add = [&](const Tenant& t, double DeviceSeconds::*what, double device_seconds) {
    TenantView& v = views[t.policy.tenant];
    v.used.*what += device_seconds;
    if (v.day_ends != base::never()) v.used_today_device_seconds += device_seconds;
  };
  for (const auto& [id, i] : state_->instances) {
    if (i->in_flight > 0 || i->tenant == nullptr) continue;
    const bool rests = i->phase == Phase::ready || i->phase == Phase::standby;
    const double since = State::held_devices(*i) * base::to_s(std::max(now - i->billed_at, base::Duration::zero()));
    add(*i->tenant, rests ? &DeviceSeconds::idle : &DeviceSeconds::moving, since);
  }
  for (const auto& [id, r] : state_->requests) {
    if (r.instance != nullptr) add(*r.account, &DeviceSeconds::busy, device_seconds(id, now) - r.device_seconds);
  }
  std::vector<TenantView> sorted;
  for (auto& [name, view] : views) sorted.push_back(std::move(view));
  return sorted;
}

double Scheduler::device_seconds(base::RequestId request, base::TimePoint now) const {
  const auto found = state_->requests.find(request);
  if (found == state_->requests.end()) return 0;
  const Request& r = found->second;
  if (r.instance == nullptr) return r.device_seconds;
  const Instance& i = *r.instance;
  const double since = State::held_devices(i) * base::to_s(std::max(now - i.billed_at, base::Duration::zero()));
  return r.device_seconds + i.given - r.billed_from + since / std::max(i.in_flight, 1U);
}

const RoutingTotals& Scheduler::routing() const { return state_->totals; }

std::size_t Scheduler::requests_in_flight() const { return state_->in_flight; }

}  // namespace thaw::control
