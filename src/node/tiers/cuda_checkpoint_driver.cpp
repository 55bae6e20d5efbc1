#include "node/tiers/cuda_checkpoint_driver.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/units.h"
#include "node/device/devices.h"
#include "node/sandbox/clock.h"
#include "node/tiers/gpu_memory.h"
#include "node/tiers/holdings.h"
#include "node/tiers/wait_answer.h"

namespace thaw::node {
namespace {

using base::Error;
using base::ErrorKind;

constexpr auto kLockTurn = base::Millis(500);  // of one attempt; then somebody may have asked to stop
constexpr auto kMemoryPoll = base::Millis(20);
constexpr auto kDiscardTimeout = base::Seconds(5);  // from killing a process to the end of the driver's call about it
// Before anything was measured: pinning dominates the way down (1 to 2 GB/s), the bus the way up.
constexpr double kDown_bytes_per_s = 1.5e9;
constexpr double kUp_bytes_per_s = 12e9;
constexpr auto kCalls = base::Millis(200);
// A process that let go of its device may still be seen with some KiB of it.
constexpr std::uint64_t kNothing_bytes = 16ULL << 20;

base::Duration at_rate(std::uint64_t bytes, double bytes_per_s) {
  return duration_cast<base::Duration>(std::chrono::duration<double>(static_cast<double>(bytes) / bytes_per_s));
}

Error failed_state() {
  return {ErrorKind::internal, "NVIDIA's driver says that the process FAILED: it cannot be brought back"};
}

}  // namespace

CudaCheckpointDriver::CudaCheckpointDriver(Options options)
    : options_(std::move(options)), lanes_(options_.per_device) {
  auto opened = CudaCheckpoint::open(options_.libraries.driver);
  if (opened.ok()) {
    cuda_ = *std::move(opened);
    const std::string moves = cuda_->can_move() ? "" : " on the same GPU";
    capability_ = {true, "CUDA checkpoints" + moves, ""};
    return;
  }
  const bool no_driver = opened.error().message.find("cannot load") != std::string::npos;
  capability_ = {false, opened.error().message, no_driver ? "" : "install NVIDIA's driver 570 or newer"};
}

base::Status CudaCheckpointDriver::accepts(const TierSubject& subject) const {
  if (!cuda_) return Error{ErrorKind::unavailable, capability_.detail};
  if (subject.model.resources.device != spec::DeviceKind::cuda || !cuda_index(subject.device))
    return Error{ErrorKind::unavailable, "it is on no NVIDIA GPU"};
  // A process is checkpointed with all its devices. But a tensor-parallel server has a process for each of them, and those share device memory.
  const bool shares = subject.model.engine == spec::EngineKind::vllm || subject.model.engine == spec::EngineKind::sglang;
  if (subject.all_devices().size() > 1 && shares)
    return Error{ErrorKind::unavailable,
                 fmt::format("the processes of {} on several GPUs share device memory (CUDA IPC), which NVIDIA's driver does not checkpoint before "
                             "release 610; its own sleep mode can (docs/standby-drivers.md)",
                             spec::to_string(subject.model.engine))};
  if (subject.sandbox == nullptr) return Error{ErrorKind::unavailable, "it has no process"};
  return {};
}

TierEstimate CudaCheckpointDriver::estimate(const TierSubject& subject) const {
  TierEstimate estimate;
  const std::uint64_t bytes =
      gpu_memory(subject, options_.libraries).value_or(subject.model.resources.device_memory_bytes.value_or(0));
  estimate.down = kCalls + at_rate(bytes, kDown_bytes_per_s);
  estimate.up = kCalls + at_rate(bytes, kUp_bytes_per_s);
  estimate.held.host_bytes = bytes;
  return estimate;
}

Holdings CudaCheckpointDriver::holds(const TierSubject& subject) const {
  Holdings holds = measure(subject);
  holds.device_bytes = gpu_memory(subject, options_.libraries).value_or(0);
  return holds;
}

/// Until the driver is initialised; seconds after the node's start.
base::Status CudaCheckpointDriver::await_driver(const TierCall& call) const {
  for (;;) {
    THAW_RETURN_IF_ERROR(call.go_on());
    const base::Status ready = cuda_->ready();
    if (ready.ok()) return {};
    if (ready.error().message.find("being initialised") == std::string::npos) return ready.error();
    THAW_RETURN_IF_ERROR(call.pause(kMemoryPoll));
  }
}

/// The engine may have several: a server, and a worker a GPU.
std::vector<pid_t> CudaCheckpointDriver::cuda_processes(const TierSubject& subject) const {
  std::vector<pid_t> found;
  const auto& group = subject.sandbox->cgroup();
  for (const pid_t pid : group ? group->pids() : std::vector{subject.sandbox->engine_pid()})
    if (cuda_->state(pid).ok()) found.push_back(pid);
  return found;
}

bool CudaCheckpointDriver::any_in(const std::vector<pid_t>& pids, CudaProcessState state) const {
  return std::any_of(pids.begin(), pids.end(), [&](pid_t pid) {
    const auto is = cuda_->state(pid);
    return is.ok() && *is == state;
  });
}

DeviceLanes::Ran CudaCheckpointDriver::step(const TierSubject& subject, const TierCall& call,
                                            base::Status (CudaCheckpoint::*what)(pid_t) const, pid_t pid) {
  return lanes_.run(subject.device, subject.instance, call,
                    [cuda = cuda_.get(), what, pid] { return (cuda->*what)(pid); });
}

// --- down

TierOutcome CudaCheckpointDriver::down(const TierSubject& subject, const TierCall& call) {
  PhaseClock clock;
  Parked parked;
  std::optional<Failure> failure;
  Holdings before;
  if (subject.sandbox == nullptr || subject.sandbox->ended()) {
    failure = Failure{engine_ended(), Rests::lost};
  } else if (auto accepted = accepts(subject); !accepted.ok()) {
    failure = Failure{accepted.error(), Rests::ready};
  } else if (auto ready = await_driver(call); !ready.ok()) {
    failure = Failure{ready.error(), Rests::ready};
  } else {
    before = holds(subject);
    failure = park(subject, call, parked);
    clock.finish("checkpoint");
  }
  TierOutcome outcome = conclude(std::move(failure), Rests::standby, clock, [&] { return holds(subject); });
  if (!outcome.ok()) return outcome;
  outcome.freed = difference(before, outcome.held);
  parked.device_bytes = before.device_bytes;
  const std::lock_guard lock(mutex_);
  parked_.insert_or_assign(subject.instance, std::move(parked));
  return outcome;
}

std::optional<CudaCheckpointDriver::Failure> CudaCheckpointDriver::park(const TierSubject& subject,
                                                                        const TierCall& call, Parked& parked) {
  parked.pids = cuda_processes(subject);
  const auto nvml = Nvml::open(options_.libraries.nvml);
  for (const base::DeviceId& device : subject.all_devices()) {
    parked.devices.push_back(device);
    parked.uuids.push_back(nvml.ok() ? nvml->uuid_of(*cuda_index(device)).value_or("") : "");
  }
  if (parked.pids.empty()) return Failure{{ErrorKind::conflict, "none of its processes uses CUDA"}, Rests::ready};
  if (auto failure = lock_all(subject, parked.pids, call)) return failure;
  if (auto failure = checkpoint_all(subject, parked.pids, call)) return failure;
  // Whoever comes next finds the device as NVML sees it.
  const TierCall patience{std::min(call.deadline, now() + options_.return_timeout), call.stop};
  for (;;) {
    const auto bytes = gpu_memory(subject, options_.libraries);
    if (!bytes || *bytes <= kNothing_bytes) return std::nullopt;
    if (patience.pause(kMemoryPoll).ok()) continue;
    return back_to_ready(subject, parked.pids,
                         {ErrorKind::internal,
                          fmt::format("the driver says that it is checkpointed, and still lists {} of its memory on {}",
                                      base::format_bytes(*bytes), subject.device.str())});
  }
}

std::optional<CudaCheckpointDriver::Failure> CudaCheckpointDriver::lock_all(const TierSubject& subject,
                                                                            const std::vector<pid_t>& pids,
                                                                            const TierCall& call) {
  for (const pid_t pid : pids) {
    base::Status locked = Error{ErrorKind::timeout, ""};
    while (!locked.ok() && locked.error().kind == ErrorKind::timeout) {
      if (auto on = call.go_on(); !on.ok())
        return back_to_ready(subject, pids,
                             {on.error().kind, on.error().message + " (while its work on the device was awaited)"});
      const base::Duration turn = std::min<base::Duration>(kLockTurn, call.left());
      const auto ran = lanes_.run(subject.device, subject.instance, {call.deadline + kLockTurn, call.stop},
                                  [cuda = cuda_.get(), pid, turn] { return cuda->lock(pid, turn); });
      if (ran.under_way) return Failure{ran.status.error(), Rests::lost};
      locked = ran.status;
    }
    if (!locked.ok()) return back_to_ready(subject, pids, locked.error());
  }
  return std::nullopt;
}

std::optional<CudaCheckpointDriver::Failure> CudaCheckpointDriver::checkpoint_all(const TierSubject& subject,
                                                                                  const std::vector<pid_t>& pids,
                                                                                  const TierCall& call) {
  for (const pid_t pid : pids) {
    const auto ran = step(subject, call, &CudaCheckpoint::checkpoint, pid);
    if (ran.under_way) return Failure{ran.status.error(), Rests::lost};
    if (!ran.status.ok()) return back_to_ready(subject, pids, ran.status.error());
    const auto state = cuda_->state(pid);
    if (!state.ok() || *state != CudaProcessState::checkpointed)
      return back_to_ready(
          subject, pids,
          {ErrorKind::internal, fmt::format("the driver checkpointed process {} and says that it is {}", pid,
                                            state.ok() ? to_string(*state) : state.error().message)});
  }
  return std::nullopt;
}

/// From whatever mixture of states: up with those that went down, open those that are locked. `error`: why.
CudaCheckpointDriver::Failure CudaCheckpointDriver::back_to_ready(const TierSubject& subject,
                                                                  const std::vector<pid_t>& pids, Error error) {
  if (subject.sandbox->ended()) return {engine_ended(), Rests::lost};
  const TierCall undo{now() + options_.undo_timeout, {}};
  for (const pid_t pid : pids) {
    for (;;) {
      const auto state = cuda_->state(pid);
      if (!state.ok()) return {state.error().within(error.message), Rests::lost};
      if (*state == CudaProcessState::running) break;
      if (*state == CudaProcessState::failed) return {failed_state().within(error.message), Rests::lost};
      const bool down = *state == CudaProcessState::checkpointed;
      const auto ran = lanes_.run(subject.device, subject.instance, undo, [cuda = cuda_.get(), pid, down] {
        return down ? cuda->restore(pid, {}) : cuda->unlock(pid);
      });
      if (!ran.status.ok())
        return {ran.status.error().within(error.message + "; and it cannot be brought back"), Rests::lost};
    }
  }
  const auto answers = wait_answer(*subject.sandbox, undo, probe_for(subject.model, probe_ready));
  if (!answers.ok()) return {answers.error().within(error.message + "; and it does not answer any more"), Rests::lost};
  return {std::move(error), Rests::ready};
}

// --- up

TierOutcome CudaCheckpointDriver::up(const TierSubject& subject, const TierCall& call) {
  PhaseClock clock;
  std::optional<Parked> parked;
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = parked_.find(subject.instance); found != parked_.end()) parked = found->second;
  }
  std::optional<Failure> failure;
  if (subject.sandbox == nullptr || subject.sandbox->ended()) {
    failure = Failure{engine_ended(), Rests::lost};
  } else if (!parked) {
    failure = Failure{{ErrorKind::conflict, "it was not checkpointed by this driver"}, Rests::lost};
  } else if (auto on = call.go_on(); !on.ok()) {
    failure = Failure{on.error(), Rests::standby};
  } else {
    failure = unpark(subject, call, *parked);
    clock.finish("restore");
  }
  if (!failure) {
    const auto answers = wait_answer(*subject.sandbox, call, probe_for(subject.model, probe_ready));
    clock.finish("answer");
    if (!answers.ok()) failure = Failure{answers.error(), Rests::lost};
  }
  TierOutcome outcome = conclude(std::move(failure), Rests::ready, clock, [&] { return holds(subject); });
  if (outcome.rests != Rests::standby) {
    const std::lock_guard lock(mutex_);
    parked_.erase(subject.instance);
  }
  return outcome;
}

std::optional<CudaCheckpointDriver::Failure> CudaCheckpointDriver::unpark(const TierSubject& subject,
                                                                          const TierCall& call, const Parked& parked) {
  const auto moves = moves_to(subject, parked);
  if (!moves.ok()) return Failure{moves.error(), Rests::standby};
  if (auto room = await_room(subject, call, parked.device_bytes); !room.ok())
    return Failure{room.error(), Rests::standby};
  bool any_restored = false;
  for (const pid_t pid : parked.pids) {
    const auto ran = lanes_.run(subject.device, subject.instance, call,
                                [cuda = cuda_.get(), pid, moves = *moves] { return cuda->restore(pid, moves); });
    if (ran.under_way) return Failure{ran.status.error(), Rests::lost};
    if (!ran.status.ok()) {
      if (subject.sandbox->ended()) return Failure{engine_ended(), Rests::lost};
      if (any_in(parked.pids, CudaProcessState::failed))
        return Failure{failed_state().within(ran.status.error().message), Rests::lost};
      // Half of them up is neither; and after a failure for want of room none may ever come up.
      const bool as_before = !any_restored && ran.status.error().kind != ErrorKind::exhausted;
      return Failure{ran.status.error(), as_before ? Rests::standby : Rests::lost};
    }
    any_restored = true;
  }
  for (const pid_t pid : parked.pids) {
    const auto ran = step(subject, call, &CudaCheckpoint::unlock, pid);
    if (!ran.status.ok()) return Failure{ran.status.error(), Rests::lost};
  }
  return std::nullopt;
}

base::Result<std::vector<CudaMove>> CudaCheckpointDriver::moves_to(const TierSubject& subject,
                                                                   const Parked& parked) const {
  const std::vector<base::DeviceId> to = subject.all_devices();
  if (to == parked.devices) return std::vector<CudaMove>();
  if (!cuda_->can_move())
    return Error{ErrorKind::unavailable,
                 fmt::format("it was checkpointed on {} and cannot come back on {}: that takes NVIDIA's driver 580",
                             parked.devices.front().str(), subject.device.str())};
  if (to.size() != parked.devices.size())
    return Error{ErrorKind::invalid, fmt::format("it was checkpointed on {} GPUs and cannot come back on {}", parked.devices.size(), to.size())};
  THAW_ASSIGN_OR_RETURN(const Nvml nvml, Nvml::open(options_.libraries.nvml));
  std::vector<CudaMove> moves;
  for (std::size_t n = 0; n < to.size(); ++n) {
    const auto index = cuda_index(to[n]);
    if (!index) return Error{ErrorKind::invalid, to[n].str() + " is no NVIDIA GPU"};
    THAW_ASSIGN_OR_RETURN(const std::string uuid, nvml.uuid_of(*index));
    if (parked.uuids[n].empty())
      return Error{ErrorKind::unavailable, "which GPU it was checkpointed on is not known: NVML did not say"};
    moves.push_back({parked.uuids[n], uuid});
  }
  return moves;
}

/// Asked before every restore: one that fails for want of room spoils the process. Where NVML does not say, it is
/// tried.
base::Status CudaCheckpointDriver::await_room(const TierSubject& subject, const TierCall& call,
                                              std::uint64_t bytes) const {
  const std::vector<base::DeviceId> devices = subject.all_devices();
  const std::uint64_t share = bytes / devices.size();
  for (const base::DeviceId& device : devices) {
    const auto index = cuda_index(device);
    for (;;) {
      const auto nvml = Nvml::open(options_.libraries.nvml);
      const auto free_bytes = nvml.ok() && index ? nvml->free_bytes(*index) : base::Result<std::uint64_t>(UINT64_MAX);
      if (!free_bytes.ok() || *free_bytes >= share) break;
      if (auto on = call.pause(kMemoryPoll); !on.ok())
        return on.error().within(fmt::format("{} has {} free, and {} are needed", device.str(),
                                             base::format_bytes(*free_bytes), base::format_bytes(share)));
    }
  }
  return {};
}

base::Status CudaCheckpointDriver::discard(const TierSubject& subject) {
  {
    const std::lock_guard lock(mutex_);
    parked_.erase(subject.instance);
  }
  if (subject.sandbox == nullptr) return {};
  // A locked process takes SIGKILL like any other, and its end ends the driver's calls about it.
  subject.sandbox->kill();
  if (lanes_.wait_idle(subject.instance, now() + kDiscardTimeout)) return {};
  return Error{ErrorKind::timeout, "NVIDIA's driver does not come back from a call about a process that was killed"};
}

}  // namespace thaw::node
