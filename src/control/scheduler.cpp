#include "control/scheduler.h"

#include <algorithm>
#include <cassert>

#include "control/state.h"

namespace thaw::control {

Scheduler::Scheduler(Policy policy, std::uint64_t first_instance) : state_(std::make_unique<State>()) {
  state_->policy = policy;
  state_->next_instance = std::max<std::uint64_t>(first_instance, 1);
}

Scheduler::~Scheduler() = default;

// --- bringing everything to rest

void Scheduler::State::touch(Model& m) {
  if (m.dirty) return;
  m.dirty = true;
  dirty.push_back(&m);
}

/// Whoever waits for room may find some there now.
void Scheduler::State::changed_on(Device& d) {
  room_changed = true;
  shortlist.changed(d);
  if (d.changed || waiters.empty()) return;
  d.changed = true;
  changed.push_back(&d);
}

void Scheduler::State::changed_on(const Instance& i) {
  for (Device* d : i.devices) changed_on(*d);
}

/// Until nothing is left to decide. Every round starts, stops, keeps or refuses something, of which there is a bounded
/// number, or changes nothing; the bound is there so that a mistake in that cannot hang the daemon.
void Scheduler::State::work(base::TimePoint now, Actions& out) {
  const std::size_t max_steps = 10'000 + 100 * models.size();
  std::size_t next = 0;
  for (std::size_t steps = 0; next < dirty.size() || room_changed; ++steps) {
    assert(steps < max_steps && "decisions that undo each other");
    if (steps >= max_steps) break;
    if (next < dirty.size()) {
      Model& m = *dirty[next++];
      m.dirty = false;
      reconcile(m, now, out);
    } else {
      room_changed = false;
      settle(now, out);
    }
  }
  for (; next < dirty.size(); ++next) dirty[next]->dirty = false;
  dirty.clear();
  if (!retired.empty()) bury();
}

void Scheduler::State::reconcile(Model& m, base::TimePoint now, Actions& out) {
  if (m.removed) return;
  dispatch_queue(m, now, out);
  refuse_overdue(m, now, out);
  end_overdue(m, now, out);
  stop_rested(m, now, out);
  stop_idle(m, now, out);
  scale_down(m, now, out);
  revive_scaled_down(m, now);
  dispatch_queue(m, now, out);  // to revived ones
  drop_surplus_claims(m, now, out);
  drop_stuck_claims(m, now, out);
  if (missing(m, now) == 0) {
    leave_waiters(m);
  } else if (!m.waiting) {
    join_waiters(m, now);
    // Nothing changed for those who wait already, unless time alone gave them a chance that tick() has yet to deliver.
    if (timers.next() <= now) look_everywhere(m);
    else try_place(m, now, out);
  } else if (m.waits_entitled != entitled(m)) {
    leave_waiters(m);
    join_waiters(m, now);
    look_everywhere(m);
  } else {
    if (m.waits_with < m.priority()) move_up(m, now);
    refuse_hopeless(m, now, out);
    const bool may_find_more = std::min(m.chance_at, m.looked_at + policy.look_again_every) <= now;
    if (m.waiting && !tiny() && m.looked_at < now && may_find_more) look_everywhere(m);
  }
  wake_ahead(m, now, out);
  think_of_snapshot(m, now, out);
  timers.arm(m.timer, wake_at(m, now));
}

void Scheduler::State::bury() {
  std::erase_if(retired, [](const std::unique_ptr<Model>& m) { return m->instances.empty() && m->in_flight == 0; });
}

Instance* Scheduler::State::find(base::InstanceId id) {
  const auto found = instances.find(id);
  return found == instances.end() ? nullptr : found->second.get();
}

std::vector<Model*> Scheduler::State::models_in_order() {
  std::vector<Model*> all;
  all.reserve(models.size());
  for (auto& [name, m] : models) all.push_back(m.get());
  std::sort(all.begin(), all.end(), [](const Model* a, const Model* b) { return a->timer.owner < b->timer.owner; });
  return all;
}

// --- the public face

void Scheduler::node_joined(const wire::NodeHello& hello, base::TimePoint now, Actions& out) { state_->joined(hello, now, out); }

base::Status Scheduler::can_ever_run(const spec::ModelSpec& spec) const { return state_->can_ever_run(spec); }

void Scheduler::model_deployed(const spec::ModelSpec& spec, base::TimePoint now, Actions& out, const base::TenantName& owner) {
  state_->deployed(spec, owner, now, out);
}

base::Status Scheduler::set_tenant(const TenantPolicy& policy, base::TimePoint now, Actions& out) { return state_->set_tenant(policy, now, out); }

void Scheduler::forget_tenant(const base::TenantName& tenant, base::TimePoint now, Actions& out) { state_->forget_tenant(tenant, now, out); }

void Scheduler::model_removed(const base::ModelName& model, base::TimePoint now, Actions& out) { state_->removed(model, now, out); }

void Scheduler::model_stopped(const base::ModelName& model, bool kill, base::TimePoint now, Actions& out) {
  state_->stopped(model, kill, now, out);
}

bool Scheduler::has_model(const base::ModelName& model) const { return state_->models.count(model) > 0; }

void Scheduler::request_arrived(const Arrival& arrival, base::TimePoint now, Actions& out) { state_->arrive(arrival, now, out); }

void Scheduler::request_answering(base::RequestId request, base::TimePoint now) { state_->answering(request, now); }

void Scheduler::request_engine_error(base::RequestId request) { state_->engine_error(request); }

void Scheduler::request_ended(base::RequestId request, base::TimePoint now, Actions& out) { state_->ended(request, now, out); }

void Scheduler::request_failed(base::RequestId request, RequestFailure failure, base::TimePoint now, Actions& out) {
  state_->failed(request, failure, now, out);
}

void Scheduler::instance_ready(const wire::InstanceReady& event, base::TimePoint now, Actions& out) { state_->ready(event, now, out); }

void Scheduler::instance_down(const wire::InstanceDown& event, base::TimePoint now, Actions& out) { state_->down(event, now, out); }

void Scheduler::instance_gone(const wire::InstanceGone& event, base::TimePoint now, Actions& out) {
  Instance* const i = state_->find(event.instance);
  if (i == nullptr) return;
  state_->gone(*i, now, out);
  state_->work(now, out);
}

void Scheduler::instance_outdated(base::InstanceId instance, const std::string& reason, base::TimePoint now, Actions& out) {
  state_->outdated(instance, reason, now, out);
}

void Scheduler::images_outdated(const base::ModelName& model, const std::string& reason, base::TimePoint now, Actions& out) {
  const auto found = state_->models.find(model);
  if (found == state_->models.end()) return;
  for (Image* image : found->second->images) state_->drop(*image, reason, out);
  state_->work(now, out);
}

void Scheduler::instance_weights(const wire::InstanceWeights& event) {
  constexpr std::uint64_t kEnoughToMeasure = 32ULL << 20;
  constexpr double kWeightOfSlower = 1.0 / 16;  // most of those shared the disk with others
  Instance* const i = state_->find(event.instance);
  if (i == nullptr || !event.phase.bytes) return;
  i->model->weights_bytes = event.phase.bytes->read + event.phase.bytes->resident;
  const double share = i->model->bytes > 0 ? std::min(static_cast<double>(i->model->weights_bytes) / static_cast<double>(i->model->bytes), 1.0) : 0;
  double& average = state_->weights_share;
  average = average > 0 ? average + (share - average) / 8 : share;
  State::weights_used(*i->model, *i->device->owner, i->phase_since);
  if (event.phase.bytes->read < kEnoughToMeasure || event.phase.duration <= base::Duration::zero()) return;
  double& known = i->device->owner->read_bytes_per_s;
  const double seen = event.phase.bytes_per_s();
  known = seen > known ? seen : known + (seen - known) * kWeightOfSlower;
  state_->read_bytes_per_s = std::max(state_->read_bytes_per_s, known);
}

void Scheduler::adapter_loaded(base::InstanceId instance, const base::ModelName& adapter) {
  Instance* const i = state_->find(instance);
  if (i != nullptr && i->phase == Phase::ready && !i->has(adapter)) i->adapters.push_back(adapter);
}

void Scheduler::instance_standby(const wire::InstanceStandby& event, base::TimePoint now, Actions& out) { state_->frozen(event, now, out); }

void Scheduler::freeze_failed(const wire::FreezeFailed& event, base::TimePoint now, Actions& out) { state_->freeze_failed(event, now, out); }

void Scheduler::snapshot_taken(const wire::SnapshotTaken& event, base::TimePoint now, Actions& out) { state_->taken(event, now, out); }

void Scheduler::snapshot_failed(const wire::SnapshotFailed& event, base::TimePoint now, Actions& out) { state_->not_taken(event, now, out); }

void Scheduler::image_gone(const wire::ImageGone& event, base::TimePoint now, Actions& out) { state_->image_gone(event, now, out); }

base::Result<std::uint32_t> Scheduler::model_frozen(const base::ModelName& model, base::TimePoint now, Actions& out) {
  return state_->freeze_model(model, now, out);
}

base::Result<bool> Scheduler::model_woken(const base::ModelName& model, base::TimePoint now, Actions& out) {
  return state_->wake_model(model, now, out);
}

base::Result<base::ImageId> Scheduler::model_snapshot(const base::ModelName& model, base::TimePoint now, Actions& out) {
  return state_->snapshot_model(model, now, out);
}

base::Status Scheduler::image_dropped(const base::ImageId& image, base::TimePoint now, Actions& out) {
  return state_->drop_by_hand(image, now, out);
}

base::Result<std::uint32_t> Scheduler::set_duty(const base::NodeName& node, const base::DeviceId& device, Duty duty, base::TimePoint now,
                                                Actions& out) {
  return state_->set_duty(node, device, duty, now, out);
}

void Scheduler::drain(base::TimePoint now, Actions& out) { state_->drain(now, out); }

base::TimePoint Scheduler::next_tick() const { return state_->timers.next(); }

void Scheduler::tick(base::TimePoint now, Actions& out) {
  while (Timer* timer = state_->timers.pop_due(now)) {
    Model* const m = timer->model;
    if (timer == &state_->accounts_timer) {
      state_->look_at_accounts(now, out);
      continue;
    }
    if (m != nullptr) state_->touch(*m);
    if (m == nullptr) state_->room_changed = true;
    else if (m->waiting) state_->look_everywhere(*m);
  }
  state_->work(now, out);
}

}  // namespace thaw::control
