// Copies of the books for people and metrics, in a fixed order.
#include <algorithm>

#include "control/state.h"

namespace thaw::control {

std::vector<InstanceView> Scheduler::instances() const {
  std::vector<InstanceView> views;
  for (const auto& [id, i] : state_->instances) {
    if (i->phase == Instance::Phase::gone) continue;
    InstanceView v;
    v.instance = id;
    v.model = i->model->spec.name;
    v.node = i->device->node;
    v.device = i->device->info.id;
    v.state = i->phase == Instance::Phase::starting ? InstanceState::starting
              : i->usable()                         ? InstanceState::ready
                                                    : InstanceState::stopping;
    v.device_bytes = i->bytes;
    v.in_flight = i->in_flight;
    v.served = i->served;
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
    v.starting = m->starting;
    v.stopping = static_cast<std::uint32_t>(m->instances.size()) - m->ready() - m->starting;
    v.in_flight = m->in_flight;
    v.queued = m->waiting_requests();
    v.cold_starts = m->cold_starts;
    v.start_failures = m->start_failures;
    v.evictions = m->evictions;
    v.backoff_until = m->backoff_until;
    v.last_failure = m->last_failure;
    v.start_cost = m->start_cost.value();
    views.push_back(std::move(v));
  }
  std::sort(views.begin(), views.end(), [](const ModelView& a, const ModelView& b) { return a.model < b.model; });
  return views;
}

std::vector<DeviceView> Scheduler::devices() const {
  std::vector<DeviceView> views;
  views.reserve(state_->devices.size());
  for (const auto& d : state_->devices) views.push_back({d->node, d->info, d->reserved});
  return views;
}

std::size_t Scheduler::requests_in_flight() const { return state_->in_flight; }

}  // namespace thaw::control
