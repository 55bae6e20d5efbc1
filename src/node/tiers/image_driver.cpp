#include "node/tiers/image_driver.h"

#include <algorithm>
#include <filesystem>

#include <fmt/format.h>

#include "node/sandbox/clock.h"
#include "node/sandbox/files.h"
#include "node/sandbox/pipes.h"
#include "node/tiers/holdings.h"
#include "node/tiers/outcome.h"

namespace thaw::node {
namespace {

using base::Error;
using base::ErrorKind;

constexpr auto kCalls = base::Millis(400);  // of the runtime, whatever it writes
constexpr std::uint64_t kSmallest_bytes = 2ULL << 20;
constexpr auto kLookTimeout = base::Seconds(5);  // after a failed checkpoint: does it still answer?
constexpr std::size_t kMaxSaid_bytes = 300;

std::uint64_t bytes_in(const std::string& directory) {
  std::uint64_t sum = 0;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error))
    if (entry.is_regular_file(error)) sum += entry.file_size(error);
  return sum;
}

}  // namespace

Capability incapable(const base::Error& error) {
  const std::size_t remedy = error.message.rfind("; ");
  return {false, error.message.substr(0, remedy), remedy == std::string::npos ? "" : error.message.substr(remedy + 2)};
}

TierEstimate ImageDriver::estimate(const TierSubject& subject) const {
  // All that is no mapped weights: caches and buffers, or everything where the weights are copied. The books' figure is
  // the upper bound.
  const std::uint64_t weights_bytes = weights_on_disk(subject.weight_files);
  const std::uint64_t total_bytes = subject.model.resources.device_memory_bytes.value_or(weights_bytes);
  TierEstimate estimate;
  estimate.image_bytes = std::max(kSmallest_bytes, total_bytes > weights_bytes ? total_bytes - weights_bytes : 0);
  const auto copying = duration_cast<base::Duration>(
      std::chrono::duration<double>(static_cast<double>(estimate.image_bytes) / bytes_per_s()));
  estimate.down = kCalls + copying;
  estimate.up = kCalls + copying;
  return estimate;
}

// --- down

TierOutcome ImageDriver::down(const TierSubject& subject, const TierCall& call) {
  TierOutcome outcome;
  const auto failed = [&](Error error, Rests rests) {
    outcome.error = std::move(error);
    outcome.rests = rests;
    if (rests == Rests::ready) outcome.held = measure(subject);
    return std::move(outcome);
  };
  if (subject.sandbox == nullptr || subject.sandbox->ended()) return failed(engine_ended(), Rests::lost);
  if (auto accepted = accepts(subject); !accepted.ok()) return failed(accepted.error(), Rests::ready);
  if (auto on = call.go_on(); !on.ok()) return failed(on.error(), Rests::ready);
  const Holdings before = measure(subject);
  PhaseClock clock;
  base::Status taken = remove_tree(subject.image);
  if (taken.ok()) taken = make_directories(subject.image, 0700);
  if (taken.ok()) taken = save(subject, call);
  clock.finish("checkpoint");
  outcome.phases = clock.take();
  outcome.image_bytes = bytes_in(subject.image);
  if (taken.ok() && outcome.image_bytes == 0)
    taken = Error{ErrorKind::internal, fmt::format("{} checkpoint wrote nothing", name())};
  if (taken.ok()) {
    outcome.rests = Rests::standby;
    outcome.held.weights_bytes = weights_in_memory(subject.weight_files);
    outcome.freed = difference(before, outcome.held);
    return outcome;
  }
  (void)remove_tree(subject.image);
  // A sandbox seldom survives a checkpoint that failed; what answers is as before.
  const auto answers = wait_answer(*subject.sandbox, {now() + kLookTimeout, {}}, probe_for(subject.model, probe_));
  return failed(taken.error(), answers.ok() ? Rests::ready : Rests::lost);
}

// --- up

TierOutcome ImageDriver::up(const TierSubject& subject, const TierCall& call) {
  TierOutcome outcome;
  auto sandbox = answering(subject, call, outcome);
  if (!sandbox.ok()) {
    outcome.error = sandbox.error();
    outcome.rests = Rests::standby;
    outcome.image_bytes = bytes_in(subject.image);
    return outcome;
  }
  outcome.rests = Rests::ready;
  outcome.held.host_bytes = held_host_bytes(**sandbox);
  outcome.sandbox = std::move(sandbox).value();
  return outcome;
}

base::Result<std::unique_ptr<Sandbox>> ImageDriver::answering(const TierSubject& subject, const TierCall& call,
                                                              TierOutcome& outcome) {
  THAW_RETURN_IF_ERROR(call.go_on());
  if (!capability_.works) return Error{ErrorKind::unavailable, capability_.detail};
  PhaseClock clock;
  THAW_ASSIGN_OR_RETURN(const std::string engine, find_engine(subject.model.engine, subject.model, engine_paths_));
  wire::StartInstance start;
  start.instance = subject.instance;
  start.model = subject.model;
  start.device = subject.device;
  THAW_ASSIGN_OR_RETURN(const EngineLaunch launch, plan_launch(start, engine, view(subject.instance)));
  THAW_ASSIGN_OR_RETURN(std::unique_ptr<Sandbox> sandbox, come_up(subject, launch, call, clock));
  const auto answers = wait_answer(*sandbox, call, probe_for(subject.model, probe_));
  clock.finish("restore");
  outcome.phases = clock.take();
  if (answers.ok()) return sandbox;
  if (!sandbox->ended()) return answers.error();
  // The runtime says why on what would be the engine's output.
  const Fd output = sandbox->take_output();
  std::string said = read_available(output.get());
  if (said.size() > kMaxSaid_bytes) said.resize(kMaxSaid_bytes);
  return Error{ErrorKind::internal,
               "the restore failed: " + (said.empty() ? fmt::format("{} gave no reason", name()) : said)};
}

base::Status ImageDriver::discard(const TierSubject& subject) {
  return subject.image.empty() ? base::Status() : remove_tree(subject.image);
}

}  // namespace thaw::node
