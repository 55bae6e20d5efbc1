/// To standby and back: what of the supervisor drives the tier drivers.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "node/engine/engine.h"
#include "node/sandbox/clock.h"
#include "node/supervisor.h"
#include "node/tiers/holdings.h"

namespace thaw::node {
namespace {

/// On a CPU device what an instance holds is its device's memory.
wire::InstanceStandby standby_event(const wire::StartInstance& start, wire::DriverKind driver,
                                    const TierOutcome& outcome) {
  wire::InstanceStandby event;
  event.instance = start.instance;
  event.driver = driver;
  const bool cpu = start.model.resources.device == spec::DeviceKind::cpu;
  event.held_device_bytes = cpu ? outcome.held.host_bytes + outcome.held.weights_bytes : outcome.held.device_bytes;
  event.held_host_bytes = cpu ? 0 : outcome.held.host_bytes;
  event.phases = outcome.phases;
  return event;
}

TierOutcome not_woken(const base::Error& why) {
  TierOutcome outcome;
  outcome.rests = Rests::standby;
  outcome.error = why;
  return outcome;
}

}  // namespace

TierSubject Supervisor::subject_of(const Instance& instance) {
  TierSubject subject;
  subject.instance = instance.command.instance;
  subject.model = instance.command.model;
  subject.device = instance.command.device;
  subject.devices = instance.command.all_devices();
  subject.weight_files = weight_files(instance.command.model);
  subject.sleep_api = sleep_api_of(instance.command.model);
  subject.sandbox = instance.sandbox.get();
  return subject;
}

/// What it holds of the host budget; a CPU's memory is its device's.
std::uint64_t Supervisor::host_bytes_beside(const Instance& instance) {
  return instance.command.model.resources.device == spec::DeviceKind::cpu ? 0 : held_host_bytes(*instance.sandbox);
}

// --- commands

void Supervisor::submit_freeze(const wire::FreezeInstance& command) {
  const std::lock_guard lock(mutex_);
  const auto found = instances_.find(command.instance);
  if (found == instances_.end()) {
    events_.push(wire::FreezeFailed{command.instance, "there is no such instance", false});
    events_.push(
        wire::InstanceDown{command.instance, wire::DownReason::freeze_failed, "there is no such instance", ""});
    events_.push(wire::InstanceGone{command.instance});
    return;
  }
  const InstancePtr instance = found->second;
  // One that is to end, or ended, has been told of or need not be: what follows is InstanceGone.
  if (instance->stop_asked || instance->stage == Stage::ending) return;
  if (instance->stage != Stage::ready)
    return break_off_locked(instance, "it was to be frozen, and is not ready", wire::DownReason::freeze_failed);
  if (instance->driver == nullptr) {
    std::string why;
    (void)drivers_.for_standby(subject_of(*instance), &why);
    events_.push(wire::FreezeFailed{command.instance, "no driver takes it: " + why, true});
    return;
  }
  begin_transition_locked(instance, Stage::freezing, command.deadline, freeze_queue_);
}

void Supervisor::submit_wake(const wire::WakeInstance& command) {
  const std::lock_guard lock(mutex_);
  const auto found = instances_.find(command.instance);
  if (found == instances_.end()) {
    events_.push(wire::InstanceDown{command.instance, wire::DownReason::wake_failed, "there is no such instance", ""});
    events_.push(wire::InstanceGone{command.instance});
    return;
  }
  const InstancePtr instance = found->second;
  if (instance->stop_asked || instance->stage == Stage::ending) return;
  if (instance->stage != Stage::standby)
    return break_off_locked(instance, "it was to be woken, and is not in standby", wire::DownReason::wake_failed);
  compete_locked(*instance);
  begin_transition_locked(instance, Stage::waking, command.deadline, wake_queue_);
}

void Supervisor::begin_transition_locked(const InstancePtr& instance, Stage stage, base::Duration within,
                                         std::deque<InstancePtr>& queue) {
  if (stage == Stage::freezing) instance->weights.cancel();  // nobody needs them for now
  instance->stage = stage;
  instance->transition = std::stop_source();
  instance->transition_until = now() + within;
  queue.push_back(instance);
  transition_ready_.notify_all();
}

/// Controller and node disagree about what it is: then it is nothing any more.
void Supervisor::break_off_locked(const InstancePtr& instance, const std::string& why, wire::DownReason reason) {
  spdlog::error("instance {}: {}", instance->command.instance.value(), why);
  if (reason == wire::DownReason::freeze_failed)
    events_.push(wire::FreezeFailed{instance->command.instance, why, false});
  events_.push(down_locked(*instance, reason, why));
  stop_locked(instance, base::Duration::zero());
}

// --- workers

void Supervisor::transition_worker(std::deque<InstancePtr>& queue, void (Supervisor::*carry_out)(const InstancePtr&)) {
  for (;;) {
    InstancePtr instance;
    {
      std::unique_lock lock(mutex_);
      transition_ready_.wait(lock, [&] { return workers_end_ || !queue.empty(); });
      if (queue.empty()) return;
      instance = std::move(queue.front());
      queue.pop_front();
    }
    (this->*carry_out)(instance);
  }
}

/// A frozen sandbox's init does not reap, so nobody would hear of its engine's end: then the whole sandbox ends. In any
/// other stage the init tells, with the engine's own exit status.
void Supervisor::on_engine_ended(base::InstanceId id) {
  const std::lock_guard lock(mutex_);
  const auto found = instances_.find(id);
  if (found == instances_.end()) return;
  const InstancePtr& instance = found->second;
  if (instance->stage != Stage::freezing && instance->stage != Stage::standby && instance->stage != Stage::waking)
    return;
  instance->engine_ended = true;
  instance->transition.request_stop();
  instance->sandbox->kill();
}

void Supervisor::freeze(const InstancePtr& instance) {
  const TierSubject subject = subject_of(*instance);
  if (auto watched = watcher_->watch_engine(subject.instance, subject.sandbox->engine_pid()); !watched.ok())
    spdlog::debug("instance {}: {}", subject.instance.value(), watched.error().message);  // it has ended
  const TierOutcome outcome =
      instance->driver->down(subject, {instance->transition_until, instance->transition.get_token()});
  if (outcome.rests == Rests::standby) handover_.give_back(subject.instance);
  const base::InstanceId id = instance->command.instance;
  const std::lock_guard lock(mutex_);
  if (instance->stop_asked) return end_locked(instance);
  if (instance->exit || outcome.rests == Rests::lost) {
    const std::string why =
        outcome.ok() || instance->engine_ended ? std::string("the engine ended") : outcome.error->message;
    events_.push(wire::FreezeFailed{id, why, false});
    events_.push(instance->exit ? ended_locked(*instance, wire::DownReason::crashed, "while it was being frozen: ")
                                : down_locked(*instance, wire::DownReason::freeze_failed, why));
    return end_locked(instance);
  }
  if (outcome.rests == Rests::ready) {
    instance->stage = Stage::ready;
    events_.push(wire::FreezeFailed{id, outcome.error->message, true});
    return;
  }
  instance->stage = Stage::standby;
  cpu_turns_.remove(id);  // it computes nothing
  events_.push(standby_event(instance->command, kind_of(*instance->driver), outcome));
}

void Supervisor::wake(const InstancePtr& instance) {
  const TierSubject subject = subject_of(*instance);
  const base::Status taken = take_devices(*instance);
  TierOutcome outcome = taken.ok() ? instance->driver->up(subject, {instance->transition_until, instance->transition.get_token()})
                                   : not_woken(taken.error());
  if (outcome.rests == Rests::ready) instance->host_bytes = host_bytes_beside(*instance);
  const std::lock_guard lock(mutex_);
  if (instance->stop_asked) return end_locked(instance);
  if (instance->exit) {
    events_.push(ended_locked(*instance, wire::DownReason::wake_failed, "while it was being woken: "));
    return end_locked(instance);
  }
  if (outcome.rests != Rests::ready) {
    events_.push(down_locked(*instance, wire::DownReason::wake_failed,
                             instance->engine_ended ? "the engine ended" : outcome.error->message));
    return end_locked(instance);
  }
  instance->stage = Stage::ready;
  wire::InstanceReady ready{instance->command.instance, instance->sandbox->socket_path(), std::move(outcome.phases)};
  ready.way = wire::Way::wake;
  ready.can_freeze = true;
  ready.held_host_bytes = instance->host_bytes;
  ready.copied_weights = instance->copied_weights;
  events_.push(std::move(ready));
}

}  // namespace thaw::node
