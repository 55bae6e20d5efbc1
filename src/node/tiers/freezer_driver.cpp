#include "node/tiers/freezer_driver.h"

#include <unistd.h>

#include <algorithm>
#include <thread>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "node/sandbox/clock.h"
#include "node/sandbox/files.h"
#include "node/tiers/holdings.h"
#include "node/tiers/outcome.h"
#include "node/tiers/phases.h"
#include "node/tiers/wait_answer.h"

namespace thaw::node {
namespace {

constexpr auto kOwnReads = base::Millis(500);  // from giving a fill up to the end of what is in flight: chunks of 2 MiB
constexpr auto kOwnReadsPoll = base::Millis(2);
constexpr auto kUndoTimeout = base::Seconds(5);  // beyond the call's deadline: to get back to where it was
// Before anything was measured: page-out at some 60 GB/s, reading at what a cheap NVMe drive gives.
constexpr double kPageOut_bytes_per_s = 60e9;
constexpr double kRead_bytes_per_s = 1.5e9;
constexpr std::uint64_t kLittle = 8;  // an eighth of a file
constexpr auto kFreeze = base::Millis(2);
constexpr auto kThaw = base::Millis(2);

base::Duration at_rate(std::uint64_t bytes, double bytes_per_s) {
  return duration_cast<base::Duration>(std::chrono::duration<double>(static_cast<double>(bytes) / bytes_per_s));
}

}  // namespace

Capability freezer_capability(const CgroupHost* cgroups, const std::string& label) {
  if (cgroups == nullptr)
    return {false, "no control groups can be made here", "run thaw as root, with the control groups mounted"};
  switch (Freezer::find(*cgroups, label)) {
    case Freezer::Kind::v2:
      return {true, cgroups->unified() ? "cgroup v2" : "cgroup v2, beside the controllers' v1 trees", ""};
    case Freezer::Kind::v1:
      return {true, "cgroup v1: should thaw be killed, frozen engines hold their memory until it is started again",
              "mount cgroup v2 (at /sys/fs/cgroup/unified)"};
    case Freezer::Kind::none:
      break;
  }
  return {false, "this host has neither cgroup v2 (Linux 5.2) nor the v1 freezer",
          "mount cgroup v2 (at /sys/fs/cgroup/unified)"};
}

FreezerSteps FreezerSteps::real() {
  return {
      .freeze = [](const Freezer& freezer, base::TimePoint deadline,
                   const std::stop_token& stop) { return freezer.freeze(deadline, stop); },
      .thaw = [](const Freezer& freezer, base::TimePoint deadline) { return freezer.thaw(deadline); },
      .page_out = [](const auto& files, const auto& stopped) { return node::page_out(files, stopped); },
      .probe = [](const std::string& socket, base::Duration timeout) { return probe_ready(socket, timeout); },
  };
}

FreezerDriver::FreezerDriver(std::shared_ptr<const CgroupHost> cgroups, const std::string& label, PageFiller& filler,
                             FreezerSteps steps)
    : filler_(filler), steps_(std::move(steps)), capability_(freezer_capability(cgroups.get(), label)) {}

base::Status FreezerDriver::accepts(const TierSubject& subject) const {
  if (!capability_.works)
    return base::Error{base::ErrorKind::unavailable, capability_.detail + "; " + capability_.remedy};
  if (subject.model.resources.device != spec::DeviceKind::cpu)
    return base::Error{base::ErrorKind::unavailable,
                       "a frozen process keeps its GPU memory: the freezer is for models on the CPU"};
  if (subject.sandbox == nullptr || !subject.sandbox->cgroup() ||
      subject.sandbox->cgroup()->freezer().kind() == Freezer::Kind::none)
    return base::Error{base::ErrorKind::unavailable, "its processes are in no control group that can be frozen"};
  return {};
}

TierEstimate FreezerDriver::estimate(const TierSubject& subject) const {
  TierEstimate estimate;
  const Holdings holds = measure(subject);
  estimate.held.host_bytes = holds.host_bytes;
  estimate.down = kFreeze + at_rate(holds.weights_bytes, kPageOut_bytes_per_s);
  estimate.up = kThaw + at_rate(weights_on_disk(subject.weight_files), kRead_bytes_per_s);
  return estimate;
}

// --- down

TierOutcome FreezerDriver::down(const TierSubject& subject, const TierCall& call) {
  TierOutcome outcome;
  PhaseClock clock;
  const auto fail = [&](base::Error error) {
    const auto back = back_to_ready(subject);
    outcome.rests = back.ok() ? Rests::ready : Rests::lost;
    if (back.ok()) outcome.held = measure(subject);
    outcome.error =
        back.ok() ? std::move(error) : back.error().within(error.message + "; and it does not answer any more");
    outcome.phases = clock.take();
    return std::move(outcome);
  };
  if (auto accepted = accepts(subject); !accepted.ok()) return fail(accepted.error());
  if (auto on = call.go_on(); !on.ok()) return fail(on.error());
  forget(subject.instance);
  const Holdings before = measure(subject);

  const auto frozen = steps_.freeze(subject.sandbox->cgroup()->freezer(), call.deadline, call.stop);
  clock.finish("freeze");
  if (!frozen.ok()) return fail(frozen.error());
  rest(subject);
  note_touched(subject);

  const auto paged = page_out_weights(subject, std::min(call.deadline, now() + kOwnReads));
  clock.finish("page-out");
  if (!paged.ok()) return fail(paged.error());
  if (!paged->why_left.empty())
    spdlog::debug("instance {}: weights stay in memory: {}", subject.instance.value(), paged->why_left);
  if (subject.sandbox->ended()) return fail(engine_ended());
  if (auto on = call.go_on(); !on.ok()) return fail(on.error());

  outcome.rests = Rests::standby;
  outcome.held = measure(subject);
  outcome.freed = difference(before, outcome.held);
  outcome.phases = clock.take();
  return outcome;
}

base::Result<PageOut> FreezerDriver::page_out_weights(const TierSubject& subject, base::TimePoint until) {
  for (;;) {
    auto report = page_out_once(subject);
    // A fill that was given up just now still has its last chunks mapped, in this process.
    const bool only_ours = report.ok() && report->running == std::vector{::getpid()};
    if (!only_ours || now() >= until) return report;
    std::this_thread::sleep_for(kOwnReadsPoll);
  }
}

base::Result<PageOut> FreezerDriver::page_out_once(const TierSubject& subject) {
  const std::shared_lock paging(paging_);
  std::vector<StoppedInstance> stopped;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [instance, resting] : resting_)
      if (instance == subject.instance || resting.files == subject.weight_files) stopped.push_back(resting.stopped);
  }
  return steps_.page_out(subject.weight_files, stopped);
}

base::Status FreezerDriver::back_to_ready(const TierSubject& subject) {
  if (subject.sandbox == nullptr || subject.sandbox->ended()) return engine_ended();
  const TierCall undo{now() + kUndoTimeout, {}};
  forget(subject.instance);
  if (subject.sandbox->cgroup()) {
    const Freezer freezer = subject.sandbox->cgroup()->freezer();
    if (freezer.kind() != Freezer::Kind::none) THAW_RETURN_IF_ERROR(steps_.thaw(freezer, undo.deadline));
  }
  return wait_answer(*subject.sandbox, undo, probe_for(subject.model, steps_.probe));
}

// --- up

TierOutcome FreezerDriver::up(const TierSubject& subject, const TierCall& call) {
  TierOutcome outcome;
  PhaseClock clock;
  const auto fail = [&](base::Error error, bool worth_keeping) {
    const auto back = worth_keeping ? back_to_standby(subject, call) : base::Status(error);
    outcome.rests = back.ok() ? Rests::standby : Rests::lost;
    if (back.ok()) outcome.held = measure(subject);
    outcome.error = std::move(error);
    outcome.phases = clock.take();
    return std::move(outcome);
  };
  if (auto accepted = accepts(subject); !accepted.ok()) return fail(accepted.error(), false);
  if (subject.sandbox->ended()) return fail(engine_ended(), false);
  if (auto on = call.go_on(); !on.ok()) return fail(on.error(), true);

  forget(subject.instance);
  read_weights(subject);
  const auto thawed = steps_.thaw(subject.sandbox->cgroup()->freezer(), call.deadline);
  clock.finish("thaw");
  if (!thawed.ok()) return fail(thawed.error(), true);

  const auto answered = wait_answer(*subject.sandbox, call, probe_for(subject.model, steps_.probe));
  clock.finish("answer");
  if (!answered.ok()) {
    // Late is no verdict on the engine: the disk may be slow today. Whoever answers nonsense, or has ended, is not
    // kept.
    const bool late = answered.error().kind == base::ErrorKind::timeout || call.stop.stop_requested();
    return fail(answered.error(), late && !subject.sandbox->ended());
  }
  {
    const std::lock_guard lock(mutex_);
    touched_.try_emplace(subject.instance);
  }
  outcome.rests = Rests::ready;
  outcome.held.host_bytes = held_host_bytes(*subject.sandbox);
  outcome.phases = clock.take();
  return outcome;
}

base::Status FreezerDriver::back_to_standby(const TierSubject& subject, const TierCall& call) {
  if (subject.sandbox->ended()) return engine_ended();
  forget(subject.instance);
  THAW_RETURN_IF_ERROR(steps_.freeze(subject.sandbox->cgroup()->freezer(), now() + kUndoTimeout, {}));
  rest(subject);
  if (call.stop.stop_requested()) return {};  // it is to end: its pages go with it
  auto paged = page_out_weights(subject, now() + kOwnReads);
  return paged.ok() ? base::Status() : base::Status(paged.error());
}

// --- who rests

void FreezerDriver::rest(const TierSubject& subject) {
  const Cgroup& group = *subject.sandbox->cgroup();
  const std::lock_guard lock(mutex_);
  resting_.insert_or_assign(subject.instance, Resting{subject.weight_files, {group.pids(), group}});
}

/// While it is frozen, before its pages leave. Before the first wake it had all of its file, to load it.
void FreezerDriver::note_touched(const TierSubject& subject) {
  {
    const std::lock_guard lock(mutex_);
    if (!touched_.contains(subject.instance)) return;
  }
  auto touched = touched_ranges(subject.sandbox->cgroup()->pids(), subject.weight_files);
  const std::lock_guard lock(mutex_);
  touched_.insert_or_assign(subject.instance, std::move(touched));
}

/// One that holds memory of its own for at least half of the weights and touched little of them the last time. One that
/// only was not asked anything since then touched little, too: without such memory it does not count.
bool FreezerDriver::needs_little(const TierSubject& subject, const std::vector<FileRange>& touched) const {
  const std::uint64_t bytes = weights_on_disk(subject.weight_files);
  return bytes_of(touched) < bytes / kLittle && held_host_bytes(*subject.sandbox) >= bytes / 2;
}

/// In the background, ahead of the engine.
void FreezerDriver::read_weights(const TierSubject& subject) {
  std::optional<std::vector<FileRange>> touched;
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = touched_.find(subject.instance); found != touched_.end()) touched = found->second;
  }
  if (touched && needs_little(subject, *touched)) return begin_to_read(*touched);
  FillHandle fill = filler_.fill(subject.weight_files);
  const std::lock_guard lock(mutex_);
  std::erase_if(fills_, [](const auto& other) { return other.second.progress().done; });
  fills_.insert_or_assign(subject.instance, std::move(fill));
}

/// It rests no more, and nothing is read for it.
void FreezerDriver::forget(base::InstanceId instance) {
  const std::lock_guard lock(mutex_);
  resting_.erase(instance);
  fills_.erase(instance);
}

base::Status FreezerDriver::discard(const TierSubject& subject) {
  forget(subject.instance);
  {
    const std::lock_guard lock(mutex_);
    touched_.erase(subject.instance);
  }
  { const std::unique_lock nobody_pages(paging_); }
  if (subject.sandbox == nullptr || !subject.sandbox->cgroup()) return {};
  // SIGKILL reaches a frozen process under v2, and Cgroup::kill_all() thaws a v1 group after it: nothing runs in
  // between.
  subject.sandbox->kill();
  return {};
}

}  // namespace thaw::node
