#include "node/supervisor.h"

#include <algorithm>
#include <csignal>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "base/revision.h"
#include "base/units.h"
#include "node/cpu/cores.h"
#include "node/device/devices.h"
#include "node/device/zero_memory.h"
#include "node/engine/engine.h"
#include "node/limits.h"
#include "node/sandbox/clock.h"
#include "node/start.h"
#include "node/weights/integrity.h"
#include "node/tiers/holdings.h"

namespace thaw::node {
namespace {

constexpr std::size_t kMaxQueuedStarts = 10'000;
constexpr unsigned kRemovalWorkers = 2;
constexpr unsigned kWakeWorkers = 2;    // at least; as many as starts, if those are more
constexpr unsigned kFreezeWorkers = 4;  // some may wait for a device's driver
constexpr auto kRemovalRetry = base::Seconds(5);
constexpr auto kDeviceReturnTimeout = base::Seconds(10);
constexpr auto kDeviceReturnPoll = base::Millis(5);
constexpr auto kFileLookInterval = base::Seconds(1);
constexpr auto kShutdownTimeout = base::Seconds(30);  // beyond the grace

std::chrono::nanoseconds until(base::TimePoint when) { return std::max<base::Duration>(when - now(), base::Duration::zero()); }

/// That engines have threads for, where nobody says otherwise.
unsigned cores_for_engines() {
  const std::size_t cores = processor_of_each_core().size();
  return cores > 0 ? static_cast<unsigned>(cores) : std::max(1U, std::thread::hardware_concurrency());
}

DeviceHandover::Zero zero_of(const AgentConfig& config) {
  if (!config.settings.zero_device_memory) return [](std::uint32_t, std::uint64_t) { return base::Result<std::uint64_t>(0); };
  return [](std::uint32_t index, std::uint64_t at_most_bytes) { return zero_free_memory(index, at_most_bytes); };
}

}  // namespace

/// One start's view of its instance.
class Supervisor::Owner : public StartOwner {
 public:
  Owner(Supervisor& supervisor, InstancePtr instance) : supervisor_(supervisor), instance_(std::move(instance)) {}

  bool over() override {
    const std::lock_guard lock(supervisor_.mutex_);
    return over_locked();
  }

  bool wait(base::Duration duration) override {
    std::unique_lock lock(supervisor_.mutex_);
    return instance_->changed.wait_for(lock, duration, [this] { return over_locked(); });
  }

  void opens(const std::vector<std::string>& files) override {
    wire::FilesSeen seen{instance_->command.instance, {}};
    for (const std::string& file : files) {
      auto stamp = stamp_file(file);
      if (!stamp.ok() && stamp.error().kind == base::ErrorKind::invalid) continue;  // no file: nothing to watch
      if (!stamp.ok()) return;  // the engine will meet it too, and say so
      seen.files.push_back(*std::move(stamp));
    }
    const std::lock_guard lock(supervisor_.mutex_);
    if (over_locked()) return;
    supervisor_.files_.watch(instance_->command.instance, seen.files);
    supervisor_.events_.push(std::move(seen));
  }
  std::stop_token stop_token() override { return instance_->transition.get_token(); }

  base::Result<Sandbox*> take_over(std::unique_ptr<Sandbox> sandbox) override {
    Sandbox* const raw = sandbox.get();
    const auto log = supervisor_.logs_.open(base::model_of(instance_->command.model.name));
    {
      const std::lock_guard lock(supervisor_.mutex_);
      instance_->sandbox = std::move(sandbox);
      instance_->log = log;
      supervisor_.compete_locked(*instance_);
    }
    THAW_RETURN_IF_ERROR(supervisor_.watcher_->watch(instance_->command.instance, raw->pidfd(), raw->take_output(),
                                                     [log](std::string_view text) { log->append(text); }));
    return raw;
  }

 private:
  [[nodiscard]] bool over_locked() const { return instance_->stop_asked || instance_->exit.has_value(); }

  Supervisor& supervisor_;
  InstancePtr instance_;
};

base::Result<std::unique_ptr<Supervisor>> Supervisor::start(const AgentConfig& config, Sandboxes& sandboxes, ImageService* images, CompileCaches* caches,
                                                            std::unique_ptr<PageFiller> filler, TierDrivers& drivers, Agent::EventSink sink) {
  std::unique_ptr<Supervisor> supervisor(new Supervisor(config, sandboxes, images, caches, std::move(filler), drivers, std::move(sink)));
  Supervisor* const raw = supervisor.get();
  THAW_ASSIGN_OR_RETURN(raw->watcher_,
                        Watcher::start({.ended = [raw](base::InstanceId id, Exit exit) { raw->on_ended(id, exit); },
                                        .engine_ended = [raw](base::InstanceId id) { raw->on_engine_ended(id); },
                                         .overdue = [raw](base::InstanceId id) { raw->on_overdue(id); }}));
  for (unsigned i = 0; i < std::max(1U, config.settings.max_concurrent_starts); ++i)
    raw->workers_.emplace_back([raw] { raw->start_worker(); });
  for (unsigned i = 0; i < std::max(kWakeWorkers, config.settings.max_concurrent_starts); ++i)
    raw->workers_.emplace_back([raw] { raw->transition_worker(raw->wake_queue_, &Supervisor::wake); });
  for (unsigned i = 0; i < kFreezeWorkers; ++i)
    raw->workers_.emplace_back([raw] { raw->transition_worker(raw->freeze_queue_, &Supervisor::freeze); });
  for (unsigned i = 0; i < kRemovalWorkers; ++i) raw->workers_.emplace_back([raw] { raw->removal_worker(); });
  return supervisor;
}

Supervisor::Supervisor(const AgentConfig& config, Sandboxes& sandboxes, ImageService* images, CompileCaches* caches, std::unique_ptr<PageFiller> filler,
                       TierDrivers& drivers, Agent::EventSink sink)
    : config_(config), sandboxes_(sandboxes), images_(images), caches_(caches), drivers_(drivers), logs_(config.data_dir, config.settings.log_bytes),
      events_(std::move(sink)),
      files_(kFileLookInterval, [this](wire::FilesChanged change) { events_.push(std::move(change)); }),
      filler_(std::move(filler)), cpu_turns_(cores_for_engines()), handover_(zero_of(config)),
      adapters_([this](wire::AdapterLoaded event) { events_.push(std::move(event)); }) {}

Supervisor::~Supervisor() {
  {
    std::unique_lock lock(mutex_);
    closing_ = true;
    const std::map<base::InstanceId, InstancePtr> all = instances_;
    for (const auto& [id, instance] : all) stop_locked(instance, config_.settings.stop_grace);
    if (!instance_gone_.wait_for(lock, config_.settings.stop_grace + kShutdownTimeout, [this] { return instances_.empty(); }))
      spdlog::error("{} instances are not gone; the next start of thaw with this data directory removes them", instances_.size());
    workers_end_ = true;
  }
  start_ready_.notify_all();
  transition_ready_.notify_all();
  removal_ready_.notify_all();
  for (std::thread& worker : workers_) worker.join();
  filler_.reset();
  watcher_.reset();
}

// --- commands

void Supervisor::submit(wire::NodeCommand command) {
  if (auto* start = std::get_if<wire::StartInstance>(&command))
    submit_start(std::move(*start));
  else if (const auto* stop = std::get_if<wire::StopInstance>(&command))
    submit_stop(*stop);
  else if (const auto* freeze = std::get_if<wire::FreezeInstance>(&command))
    submit_freeze(*freeze);
  else if (const auto* wake = std::get_if<wire::WakeInstance>(&command))
    submit_wake(*wake);
  else if (const auto* load = std::get_if<wire::LoadAdapter>(&command))
    submit_load(*load);
  else if (const auto* unload = std::get_if<wire::UnloadAdapter>(&command))
    submit_unload(*unload);
  else
    refuse(command);
}

/// No driver for images is offered in the node's hello, so nobody should ask for one.
void Supervisor::refuse(const wire::NodeCommand& command) {
  const char* why = "this node has no driver for it";
  if (const auto* take = std::get_if<wire::TakeSnapshot>(&command)) {
    events_.push(wire::SnapshotFailed{take->instance, take->image, take->model.name, why});
    events_.push(wire::InstanceGone{take->instance});
  } else if (const auto* drop = std::get_if<wire::DropImage>(&command)) {
    events_.push(wire::ImageGone{drop->image, 0, why});
  }
}

void Supervisor::submit_start(wire::StartInstance command) {
  auto instance = std::make_shared<Instance>();
  instance->command = std::move(command);
  instance->received = now();
  const base::InstanceId id = instance->command.instance;
  {
    const std::lock_guard lock(mutex_);
    const bool twice = instances_.contains(id);
    if (closing_ || twice || !id || start_queue_.size() >= kMaxQueuedStarts) {
      const char* why = closing_ ? "the node is shutting down"
                        : twice  ? "an instance of this id is there already"
                        : !id    ? "an instance's id must not be 0"
                                 : "too many starts are waiting (10,000)";
      events_.push(down_locked(*instance, wire::DownReason::start_failed, why));
      if (!twice) events_.push(wire::InstanceGone{id});
      return;
    }
    instances_[id] = instance;
    instance->weights =
        filler_->fill(weight_files(instance->command.model), [this, id](const FillProgress& progress) { on_weights(id, progress); });
    queued_deadlines_.emplace(instance->received + instance->command.deadline, id);
    start_queue_.push_back(std::move(instance));
  }
  start_ready_.notify_one();
  removal_ready_.notify_one();
}

void Supervisor::submit_stop(const wire::StopInstance& command) {
  const std::lock_guard lock(mutex_);
  const auto found = instances_.find(command.instance);
  if (found == instances_.end())
    events_.push(wire::InstanceGone{command.instance});
  else
    stop_locked(InstancePtr(found->second), command.grace);
}

/// The phase is the time from the first byte read to the last. Where all was there already it takes no time.
void Supervisor::on_weights(base::InstanceId id, const FillProgress& progress) {
  const std::lock_guard lock(mutex_);
  const auto found = instances_.find(id);
  if (found != instances_.end()) found->second->weights_there = true;
  cpu_turns_.weights_there(id);
  if (progress.total_bytes == 0) return;  // for the engine to complain of
  if (found == instances_.end() || found->second->stop_asked || found->second->stage == Stage::ending) return;
  wire::Phase phase{"weights", {}, {}, wire::PhaseBytes{progress.read_bytes, progress.resident_bytes}};
  if (progress.read_bytes > 0) {
    // A fill that was joined has begun before.
    const base::TimePoint begun = std::max(progress.first_read, found->second->received);
    phase.start = begun - found->second->received;
    phase.duration = std::max(progress.last_read, begun) - begun;
  }
  events_.push(wire::InstanceWeights{id, std::move(phase)});
}

void Supervisor::stop_locked(const InstancePtr& instance, base::Duration grace) {
  if (instance->stop_asked) return;
  instance->stop_asked = true;
  instance->weights.cancel();
  instance->changed.notify_all();
  instance->transition.request_stop();
  switch (instance->stage) {
    case Stage::queued:
      std::erase(start_queue_, instance);
      leave_queue_locked(instance);
      instances_.erase(instance->command.instance);
      events_.push(wire::InstanceGone{instance->command.instance});
      instance_gone_.notify_all();
      return;
    case Stage::starting:
      // Nothing is in flight, and an engine that is still loading may not listen to SIGTERM yet.
      if (instance->sandbox) instance->sandbox->kill();
      return;
    case Stage::ready:
      if (grace > base::Duration::zero()) instance->sandbox->signal(SIGTERM);
      watcher_->kill_at(instance->command.instance, now() + grace);
      return;
    case Stage::freezing:
    case Stage::standby:
    case Stage::waking:
      // It serves nobody, and a frozen process would not hear of a SIGTERM.
      instance->transition.request_stop();
      instance->kill_sent = true;
      instance->sandbox->kill();
      return;
    case Stage::ending: return;
  }
}

std::string Supervisor::ready_address(base::InstanceId id) const {
  const std::lock_guard lock(mutex_);
  const auto found = instances_.find(id);
  const bool ready = found != instances_.end() && found->second->stage == Stage::ready && found->second->sandbox;
  return ready ? found->second->sandbox->socket_path() : std::string();
}

base::Result<Agent::Usage> Supervisor::usage(base::InstanceId id) const {
  const std::lock_guard lock(mutex_);
  const auto found = instances_.find(id);
  if (found == instances_.end() || !found->second->sandbox || found->second->stage == Stage::ending)
    return base::Error{base::ErrorKind::not_found, fmt::format("instance {} is not running", id.value())};
  const Sandbox& sandbox = *found->second->sandbox;
  return Agent::Usage{sandbox.memory_bytes(), held_host_bytes(sandbox), sandbox.engine_pid()};
}

// --- what the watcher sees

void Supervisor::on_ended(base::InstanceId id, Exit exit) {
  const std::lock_guard lock(mutex_);
  const auto found = instances_.find(id);
  if (found == instances_.end()) return;
  const InstancePtr instance = found->second;
  if (instance->stage == Stage::ending) return;  // it is being removed by now, without this lock, and nobody asks how it ended any more
  instance->exit = instance->sandbox->ending(exit);
  instance->changed.notify_all();
  instance->transition.request_stop();
  if (instance->stage != Stage::ready && instance->stage != Stage::standby) return;  // its worker, or whoever ended it, takes it from here
  if (ended_by_itself(*instance)) events_.push(ended_locked(*instance, wire::DownReason::crashed, ""));
  end_locked(instance);
}

/// A stop may be asked for because requests saw a crash before the watcher did: then the crash is still told, with its reason. What a stop
/// itself does to an engine (SIGTERM, our SIGKILL, an exit in answer to SIGTERM) is none.
bool Supervisor::ended_by_itself(const Instance& instance) {
  if (!instance.stop_asked || instance.sandbox->oom_kills() > 0) return true;
  const Exit& exit = *instance.exit;
  if (!exit.signalled || exit.code == SIGTERM) return false;
  return exit.code != SIGKILL || !instance.kill_sent;
}

void Supervisor::on_overdue(base::InstanceId id) {
  const std::lock_guard lock(mutex_);
  const auto found = instances_.find(id);
  if (found == instances_.end() || !found->second->sandbox || found->second->stage != Stage::ready) return;
  found->second->kill_sent = true;
  found->second->sandbox->kill();
}

wire::InstanceDown Supervisor::down_locked(const Instance& instance, wire::DownReason reason, std::string detail) const {
  std::replace(detail.begin(), detail.end(), '\n', ' ');
  return {instance.command.instance, reason, std::move(detail), instance.log ? instance.log->tail() : std::string()};
}

wire::InstanceDown Supervisor::ended_locked(const Instance& instance, wire::DownReason reason, const std::string& prefix) const {
  if (instance.sandbox->oom_kills() == 0) return down_locked(instance, reason, prefix + instance.exit->text());
  return down_locked(instance, wire::DownReason::out_of_memory,
                     fmt::format("{}killed by its memory limit of {}; raise spec.resources.deviceMemory or hostMemory", prefix,
                                 base::format_bytes(limits_for(instance.command.model, sandboxes_.kind_for(instance.command.model)).memory_bytes)));
}

// --- starts

/// Every other turn is the smallest model's, so that it is not stuck behind huge ones; the rest are the oldest's, so that huge ones are not starved.
Supervisor::InstancePtr Supervisor::next_start_locked() {
  const auto bytes = [](const InstancePtr& instance) { return instance->command.model.resources.device_memory_bytes.value_or(0); };
  auto next = start_queue_.begin();
  smallest_next_ = !smallest_next_;
  if (smallest_next_)
    next = std::min_element(next, start_queue_.end(), [&](const InstancePtr& a, const InstancePtr& b) { return bytes(a) < bytes(b); });
  InstancePtr instance = std::move(*next);
  start_queue_.erase(next);
  return instance;
}

void Supervisor::start_worker() {
  for (;;) {
    InstancePtr instance;
    {
      std::unique_lock lock(mutex_);
      start_ready_.wait(lock, [this] { return workers_end_ || !start_queue_.empty(); });
      if (start_queue_.empty()) return;
      instance = next_start_locked();
      leave_queue_locked(instance);
      instance->stage = Stage::starting;
    }
    Owner owner(*this, instance);
    sandboxes_.begin_start();
    ++starts_under_way_;
    const base::Status taken = take_devices(*instance);
    auto outcome = taken.ok() ? carry_out_start(instance->command, instance->received, config_, sandboxes_, images_, caches_, owner)
                              : base::Result<StartOutcome>(taken.error());
    --starts_under_way_;
    sandboxes_.end_start();
    if (outcome.ok()) {  // nobody else looks at these before it is ready
      instance->driver = drivers_.for_standby(subject_of(*instance));
      instance->host_bytes = host_bytes_beside(*instance);
      instance->copied_weights = copies_weights(subject_of(*instance));
    }
    finish_start(instance, std::move(outcome));
  }
}

void Supervisor::finish_start(const InstancePtr& instance, base::Result<StartOutcome> outcome) {
  const std::lock_guard lock(mutex_);
  if (!instance->stop_asked && !instance->exit && outcome.ok()) {
    instance->stage = Stage::ready;
    (void)instance->sandbox->engine_pid();  // remembered while it can be seen
    wire::InstanceReady ready{instance->command.instance, instance->sandbox->socket_path(), std::move(outcome->phases)};
    ready.way = outcome->way;
    ready.fell_back = std::move(outcome->fell_back);
    ready.can_freeze = instance->driver != nullptr;
    ready.held_host_bytes = instance->host_bytes;
    ready.copied_weights = instance->copied_weights;
    events_.push(std::move(ready));
    return;
  }
  if (!instance->stop_asked) {
    if (instance->exit)
      events_.push(ended_locked(*instance, wire::DownReason::start_failed, "the engine ended before it was ready: "));
    else if (outcome.error().kind == base::ErrorKind::timeout)
      events_.push(down_locked(*instance, wire::DownReason::start_timeout, outcome.error().message));
    else
      events_.push(down_locked(*instance, wire::DownReason::start_failed, outcome.error().message));
  }
  end_locked(instance);
}

/// Before it uses them, at a start and at a wake.
base::Status Supervisor::take_devices(const Instance& instance) {
  const std::vector<base::DeviceId> devices = instance.command.all_devices();  // each has an equal share
  return handover_.take(instance.command.instance, instance.command.tenant, devices,
                        instance.command.model.resources.device_memory_bytes.value_or(0) / devices.size());
}

/// From now on it takes turns with the others that compute on the CPU.
void Supervisor::compete_locked(const Instance& instance) {
  const spec::Resources& resources = instance.command.model.resources;
  if (resources.device != spec::DeviceKind::cpu || !instance.sandbox || !instance.sandbox->cgroup()) return;
  const unsigned cores = cpu_turns_.processors();
  const unsigned threads = resources.cpus ? static_cast<unsigned>(std::clamp(*resources.cpus, 1.0, static_cast<double>(cores))) : cores;
  cpu_turns_.add(instance.command.instance, instance.command.model.name.str(), *instance.sandbox->cgroup(), resources.device_memory_bytes.value_or(0), threads,
                 instance.weights_there);
}

void Supervisor::end_locked(const InstancePtr& instance) {
  instance->weights.cancel();
  instance->stage = Stage::ending;
  files_.forget(instance->command.instance);
  removals_.emplace(now(), instance);
  removal_ready_.notify_one();
}

// --- removal

void Supervisor::leave_queue_locked(const InstancePtr& instance) {
  queued_deadlines_.erase({instance->received + instance->command.deadline, instance->command.instance});
}

void Supervisor::expire_queued_locked() {
  while (!queued_deadlines_.empty() && queued_deadlines_.begin()->first <= now()) {
    const InstancePtr instance = instances_.at(queued_deadlines_.begin()->second);
    events_.push(down_locked(*instance, wire::DownReason::start_timeout,
                             "the start waited for its turn until its deadline; raise node.maxConcurrentStarts or spec.startDeadline"));
    stop_locked(instance, base::Duration::zero());
  }
}

base::TimePoint Supervisor::next_due_locked() const {
  const base::TimePoint removal = removals_.empty() ? base::never() : removals_.begin()->first;
  return queued_deadlines_.empty() ? removal : std::min(removal, queued_deadlines_.begin()->first);
}

void Supervisor::removal_worker() {
  std::unique_lock lock(mutex_);
  while (!workers_end_) {
    expire_queued_locked();
    if (removals_.empty() || removals_.begin()->first > now()) {
      const base::TimePoint due = next_due_locked();
      if (due == base::never())
        removal_ready_.wait(lock);
      else
        removal_ready_.wait_for(lock, until(due));
      continue;
    }
    const InstancePtr instance = removals_.begin()->second;
    removals_.erase(removals_.begin());
    lock.unlock();
    remove(instance);
    lock.lock();
  }
}

void Supervisor::remove(const InstancePtr& instance) {
  const base::InstanceId id = instance->command.instance;
  base::Status status;
  cpu_turns_.remove(id);
  if (instance->sandbox) {
    const pid_t engine_pid = instance->sandbox->engine_pid();
    if (instance->driver != nullptr) status = instance->driver->discard(subject_of(*instance));
    if (status.ok()) status = instance->sandbox->destroy();
    const base::TimePoint give_up = now() + kDeviceReturnTimeout;
    const std::vector<base::DeviceId> devices = instance->command.all_devices();
    while (status.ok() && !device_memory_returned(devices, engine_pid)) {
      if (now() >= give_up)
        status = base::Error{base::ErrorKind::timeout, "the driver still lists its memory on " + instance->command.device.str()};
      else
        std::this_thread::sleep_for(kDeviceReturnPoll);
    }
  }
  if (status.ok()) handover_.give_back(id);
  const std::lock_guard lock(mutex_);
  if (!status.ok()) {
    // Its device bytes must stay reserved: something still holds them. Tried for as long as the node lives.
    ++instance->failed_removals;
    spdlog::error("instance {} of {} is not gone (attempt {}): {}", id.value(), instance->command.model.name.str(), instance->failed_removals,
                  status.error().message);
    removals_.emplace(now() + kRemovalRetry, instance);
    return;
  }
  instances_.erase(id);
  events_.push(wire::InstanceGone{id});
  instance_gone_.notify_all();
}

}  // namespace thaw::node
