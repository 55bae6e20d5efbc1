#include "node/tiers/engine_driver.h"

#include <algorithm>

#include <fmt/format.h>
#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>

#include "base/units.h"
#include "node/engine/http_client.h"
#include "node/sandbox/clock.h"
#include "node/tiers/gpu_memory.h"
#include "node/tiers/holdings.h"
#include "node/tiers/wait_answer.h"
#include "node/weights/page_fill.h"

namespace thaw::node {
namespace {

using base::Error;
using base::ErrorKind;

constexpr auto kReturnPoll = base::Millis(5);
constexpr auto kAnswerPause = base::Millis(10);  // between two questions whether it answers again
// An engine asleep keeps its context and some buffers; one that keeps more than half of what it had does not sleep.
constexpr std::uint64_t kLeastShareFreed = 2;
// Before anything was measured: pinned copies over a PCIe 4 bus, and reading anew.
constexpr double kBus_bytes_per_s = 12e9;
constexpr double kRead_bytes_per_s = 1.5e9;
constexpr auto kCalls = base::Millis(100);
// The host must have room for the weights twice: what is copied is pinned, and something else will want memory too.
constexpr std::uint64_t kRoomForLevel1 = 2;

base::Duration at_rate(std::uint64_t bytes, double bytes_per_s) {
  return duration_cast<base::Duration>(std::chrono::duration<double>(static_cast<double>(bytes) / bytes_per_s));
}

base::Status post(const TierSubject& subject, const std::string& target, const std::string& body,
                  const TierCall& call) {
  THAW_ASSIGN_OR_RETURN(const EngineAnswer answer,
                        ask_engine(subject.sandbox->socket_path(), {"POST", target, body}, call.deadline, call.stop));
  if (answer.status == 200) return {};
  if (answer.status == 404)
    return Error{ErrorKind::not_found,
                 fmt::format("the engine knows no POST {}; start it with its sleep mode on (docs/standby-drivers.md)", target)};
  return Error{ErrorKind::internal, fmt::format("the engine answers {} to POST {}", answer.status, target)};
}

/// vLLM's own word. SGLang has none.
base::Result<bool> says_it_sleeps(const TierSubject& subject, const TierCall& call) {
  THAW_ASSIGN_OR_RETURN(const EngineAnswer answer,
                        ask_engine(subject.sandbox->socket_path(), {"GET", "/is_sleeping"}, call.deadline, call.stop));
  boost::json::error_code error;
  const boost::json::value value = boost::json::parse(answer.body, error);
  const auto* object = error ? nullptr : value.if_object();
  const auto* word = object == nullptr ? nullptr : object->if_contains("is_sleeping");
  if (answer.status != 200 || word == nullptr || !word->is_bool())
    return Error{ErrorKind::internal,
                 fmt::format("the engine answers {} to GET /is_sleeping, and not whether it sleeps", answer.status)};
  return word->get_bool();
}

bool unanswered(const Error& error) {
  return error.kind == ErrorKind::timeout || error.kind == ErrorKind::unavailable || error.kind == ErrorKind::io;
}

/// SGLang answers /health whatever its state; it has another question that takes a token, and looks for that token once
/// a second, so each may have all the time there is.
base::Status wait_sglang(const TierSubject& subject, const TierCall& call) {
  for (;;) {
    if (subject.sandbox->ended()) return engine_ended();
    THAW_RETURN_IF_ERROR(call.go_on());
    const auto answer = ask_engine(subject.sandbox->socket_path(), {"GET", "/health_generate"}, call.deadline, call.stop);
    if (answer.ok() && answer->status == 200) return {};
    if (!answer.ok() && answer.error().kind == ErrorKind::invalid) return answer.error();
    THAW_RETURN_IF_ERROR(call.pause(kAnswerPause));
  }
}

base::Status wait_until_it_answers(const TierSubject& subject, const TierCall& call) {
  if (subject.sleep_api == SleepApi::sglang) return wait_sglang(subject, call);
  return wait_answer(*subject.sandbox, call, probe_ready);
}

std::optional<std::uint64_t> real_device_memory(const TierSubject& subject) {
  if (subject.model.resources.device == spec::DeviceKind::cpu) return held_host_bytes(*subject.sandbox);
  return gpu_memory(subject);
}

}  // namespace

EngineDriver::EngineDriver(Options options)
    : options_(std::move(options)),
      capability_{true, "vLLM (--enable-sleep-mode) and SGLang (--enable-memory-saver)", ""} {
  if (!options_.device_memory) options_.device_memory = real_device_memory;
  if (!options_.available_memory) options_.available_memory = available_memory_bytes;
}

base::Status EngineDriver::accepts(const TierSubject& subject) const {
  if (subject.sleep_api == SleepApi::none)
    return Error{ErrorKind::unavailable,
                 fmt::format("{} cannot sleep by itself", spec::to_string(subject.model.engine))};
  if (subject.sandbox == nullptr) return Error{ErrorKind::unavailable, "it has no process"};
  if (!options_.device_memory(subject))
    return Error{ErrorKind::unavailable,
                 "whether its memory leaves the device cannot be seen; install NVIDIA's libnvidia-ml.so.1"};
  return {};
}

int EngineDriver::choose_level(const TierSubject& subject) const {
  if (subject.sleep_api != SleepApi::vllm) return 1;
  switch (subject.model.standby.weights) {
    case spec::SleepingWeights::host:
      return 1;
    case spec::SleepingWeights::disk:
      return 2;
    case spec::SleepingWeights::automatic:
      break;
  }
  return options_.available_memory() / kRoomForLevel1 >= weights_on_disk(subject.weight_files) ? 1 : 2;
}

TierEstimate EngineDriver::estimate(const TierSubject& subject) const {
  TierEstimate estimate;
  const std::uint64_t weights_bytes = weights_on_disk(subject.weight_files);
  const bool to_host = choose_level(subject) == 1;
  estimate.down = kCalls + at_rate(to_host ? weights_bytes : 0, kBus_bytes_per_s);
  estimate.up =
      kCalls + (to_host ? at_rate(weights_bytes, kBus_bytes_per_s) : at_rate(weights_bytes, kRead_bytes_per_s));
  if (to_host) estimate.held.host_bytes = weights_bytes;
  return estimate;
}

Holdings EngineDriver::holds(const TierSubject& subject) const {
  Holdings holds = measure(subject);
  if (subject.model.resources.device != spec::DeviceKind::cpu)
    holds.device_bytes = options_.device_memory(subject).value_or(0);
  return holds;
}

// --- down

TierOutcome EngineDriver::down(const TierSubject& subject, const TierCall& call) {
  PhaseClock clock;
  Asleep asleep;
  std::optional<Failure> failure;
  Holdings before;
  if (auto accepted = accepts(subject); !accepted.ok()) {
    failure =
        Failure{accepted.error(), subject.sandbox != nullptr && !subject.sandbox->ended() ? Rests::ready : Rests::lost};
  } else if (subject.sandbox->ended()) {
    failure = Failure{engine_ended(), Rests::lost};
  } else if (auto on = call.go_on(); !on.ok()) {
    failure = Failure{on.error(), Rests::ready};
  } else {
    before = holds(subject);
    failure = put_to_sleep(subject, call, asleep);
  }
  clock.finish("sleep");
  TierOutcome outcome = conclude(std::move(failure), Rests::standby, clock, [&] { return holds(subject); });
  if (!outcome.ok()) return outcome;
  outcome.freed = difference(before, outcome.held);
  const std::lock_guard lock(mutex_);
  asleep_.insert_or_assign(subject.instance, asleep);
  return outcome;
}

std::optional<EngineDriver::Failure> EngineDriver::put_to_sleep(const TierSubject& subject, const TierCall& call,
                                                                Asleep& asleep) {
  asleep.level = choose_level(subject);
  asleep.awake_bytes = options_.device_memory(subject).value_or(0);
  const bool vllm = subject.sleep_api == SleepApi::vllm;
  const auto told = vllm ? post(subject, fmt::format("/sleep?level={}", asleep.level), "", call)
                         : post(subject, "/release_memory_occupation", "{}", call);
  if (!told.ok()) {
    if (unanswered(told.error())) return Failure{told.error(), Rests::lost};
    // SGLang must not be woken when it is awake; its memory tells. One that does not know the call does not sleep.
    const std::uint64_t bytes = options_.device_memory(subject).value_or(0);
    const bool kept_all = !vllm && bytes >= asleep.awake_bytes - asleep.awake_bytes / 10;
    return undo_sleep(subject, told.error(), asleep, !kept_all && told.error().kind != ErrorKind::not_found);
  }
  if (vllm) {
    const auto sleeps = says_it_sleeps(subject, call);
    if (!sleeps.ok()) return undo_sleep(subject, sleeps.error(), asleep, true);
    if (!*sleeps)
      return undo_sleep(subject,
                        {ErrorKind::internal, "the engine answers that it went to sleep, and that it does not sleep"},
                        asleep, true);
  }
  const TierCall patience{std::min(call.deadline, now() + options_.return_timeout), call.stop};
  for (;;) {
    asleep.asleep_bytes = options_.device_memory(subject).value_or(asleep.awake_bytes);
    if (asleep.awake_bytes - std::min(asleep.awake_bytes, asleep.asleep_bytes) >= asleep.awake_bytes / kLeastShareFreed)
      return std::nullopt;
    if (patience.pause(kReturnPoll).ok()) continue;
    return undo_sleep(subject,
                      {ErrorKind::internal,
                       fmt::format("the engine says that it sleeps, and holds {} of the {} that it held awake",
                                   base::format_bytes(asleep.asleep_bytes), base::format_bytes(asleep.awake_bytes))},
                      asleep, true);
  }
}

/// It refused to sleep, or does not do so properly: back to work with it.
EngineDriver::Failure EngineDriver::undo_sleep(const TierSubject& subject, Error error, const Asleep& asleep,
                                               bool asleep_by_half) {
  const TierCall undo{now() + options_.undo_timeout, {}};
  if (asleep_by_half)
    if (const auto failed = wake(subject, undo, asleep))
      return {failed->error.within(error.message + "; and to wake it again failed"), Rests::lost};
  const auto answers = wait_until_it_answers(subject, undo);
  if (!answers.ok()) return {answers.error().within(error.message + "; and it does not answer any more"), Rests::lost};
  return {std::move(error), Rests::ready};
}

// --- up

TierOutcome EngineDriver::up(const TierSubject& subject, const TierCall& call) {
  PhaseClock clock;
  std::optional<Failure> failure;
  std::optional<Asleep> asleep;
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = asleep_.find(subject.instance); found != asleep_.end()) asleep = found->second;
  }
  if (subject.sandbox == nullptr || subject.sandbox->ended()) {
    failure = Failure{engine_ended(), Rests::lost};
  } else if (!asleep) {
    failure = Failure{{ErrorKind::conflict, "it was not put to sleep by this driver"}, Rests::lost};
  } else if (auto on = call.go_on(); !on.ok()) {
    failure = Failure{on.error(), Rests::standby};
  } else {
    failure = wake(subject, call, *asleep);
    clock.finish("wake");
  }
  if (!failure) {
    const auto answers = wait_until_it_answers(subject, call);
    clock.finish("answer");
    if (!answers.ok()) failure = Failure{answers.error(), Rests::lost};
  }
  TierOutcome outcome = conclude(std::move(failure), Rests::ready, clock, [&] { return holds(subject); });
  if (outcome.rests != Rests::standby) {
    const std::lock_guard lock(mutex_);
    asleep_.erase(subject.instance);
  }
  return outcome;
}

std::optional<EngineDriver::Failure> EngineDriver::wake(const TierSubject& subject, const TierCall& call,
                                                        const Asleep& asleep) {
  const bool vllm = subject.sleep_api == SleepApi::vllm;
  base::Status told;
  if (!vllm) {
    told = post(subject, "/resume_memory_occupation", "{}", call);
  } else if (asleep.level == 1) {
    told = post(subject, "/wake_up", "", call);
  } else {
    // Memory for the weights, the weights, memory for the cache: in this order they never lie on the device twice.
    told = post(subject, "/wake_up?tags=weights", "", call);
    if (told.ok()) told = post(subject, "/collective_rpc", R"({"method":"reload_weights"})", call);
    if (told.ok()) told = post(subject, "/wake_up?tags=kv_cache", "", call);
  }
  if (!told.ok() && unanswered(told.error())) return Failure{told.error(), Rests::lost};
  if (vllm) {
    const auto sleeps = says_it_sleeps(subject, call);
    if (!sleeps.ok()) return Failure{sleeps.error(), Rests::lost};
    if (told.ok() && !*sleeps) return std::nullopt;
    Error error =
        told.ok() ? Error{ErrorKind::internal, "the engine answers that it woke, and that it sleeps"} : told.error();
    // A level 2 sleeper that was woken by half has memory that nobody accounts for.
    return Failure{std::move(error), *sleeps && asleep.level == 1 ? Rests::standby : Rests::lost};
  }
  const std::uint64_t bytes = options_.device_memory(subject).value_or(0);
  // Half of what it gave back has come again; of one that gave nothing back, all but what counters tremble by.
  const std::uint64_t given_back = asleep.awake_bytes - std::min(asleep.awake_bytes, asleep.asleep_bytes);
  const bool still_asleep = bytes < std::min(asleep.asleep_bytes + given_back / 2, asleep.awake_bytes / 10 * 9);
  if (told.ok() && !still_asleep) return std::nullopt;
  Error error = told.ok()
                    ? Error{ErrorKind::internal,
                            fmt::format("the engine answers that it woke, and holds {} of the {} that it held awake",
                                        base::format_bytes(bytes), base::format_bytes(asleep.awake_bytes))}
                    : told.error();
  return Failure{std::move(error), still_asleep ? Rests::standby : Rests::lost};
}

base::Status EngineDriver::discard(const TierSubject& subject) {
  const std::lock_guard lock(mutex_);
  asleep_.erase(subject.instance);
  return {};  // an engine asleep dies like any other
}

}  // namespace thaw::node
