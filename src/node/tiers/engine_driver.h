#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <optional>

#include "node/tiers/driver.h"
#include "node/tiers/outcome.h"

namespace thaw::node {

/// Bytes of device memory that an instance's processes hold: of a GPU by NVML, of a CPU by its control group. Nothing
/// when nobody says.
using DeviceMeter = std::function<std::optional<std::uint64_t>(const TierSubject&)>;

/// Standby by the engine's own means: vLLM's and SGLang's calls for sleeping (engine/sleep_api.h). The process and its
/// context stay, so it wakes fast and still holds some hundred MB of its device; what it holds is measured, for an
/// engine may say that it sleeps and keep everything:
///
///     down: POST sleep ─► is it asleep? ─► did its memory leave?      up: POST wake ─► is it awake? ─► does it answer?
///       refused, or it lies: POST wake, answers ─► ready                refused, or it sleeps on ─► standby
///       no answer by the deadline: lost                                 no answer by the deadline: lost
///
/// A call without an answer is never trusted: it may take effect later, in the middle of somebody's request.
///
/// vLLM sleeps at level 1 (weights go to host memory, and come back over the bus) where the host has room for them,
/// else at level 2 (weights are dropped, and read anew); the spec's standby.weights may say which. Prefix caches are
/// dropped by either.
class EngineDriver : public TierDriver {
 public:
  struct Options {
    DeviceMeter device_memory = {};                        ///< empty: the real one
    std::function<std::uint64_t()> available_memory = {};  ///< of the host; empty: the real one
    /// From "it sleeps" to its memory having left: a driver may free it after the answer.
    base::Duration return_timeout = base::Seconds(2);
    base::Duration undo_timeout = base::Seconds(10);  ///< beyond a call's deadline; waking copies weights over the bus
  };
  explicit EngineDriver(Options options);
  EngineDriver() : EngineDriver(Options()) {}

  [[nodiscard]] std::string_view name() const override { return "engine"; }
  [[nodiscard]] const Capability& capability() const override { return capability_; }
  [[nodiscard]] Keeps keeps() const override { return Keeps::process; }
  [[nodiscard]] base::Status accepts(const TierSubject& subject) const override;
  [[nodiscard]] TierEstimate estimate(const TierSubject& subject) const override;
  [[nodiscard]] TierOutcome down(const TierSubject& subject, const TierCall& call) override;
  [[nodiscard]] TierOutcome up(const TierSubject& subject, const TierCall& call) override;
  base::Status discard(const TierSubject& subject) override;

 private:
  /// What was done to an instance that sleeps.
  struct Asleep {
    int level = 1;
    std::uint64_t awake_bytes = 0;   ///< of its device, before
    std::uint64_t asleep_bytes = 0;  ///< after
  };
  using Failure = TierFailure;

  [[nodiscard]] int choose_level(const TierSubject& subject) const;
  std::optional<Failure> put_to_sleep(const TierSubject& subject, const TierCall& call, Asleep& asleep);
  std::optional<Failure> wake(const TierSubject& subject, const TierCall& call, const Asleep& asleep);
  /// `asleep_by_half`: it has to be woken before it can answer.
  Failure undo_sleep(const TierSubject& subject, base::Error error, const Asleep& asleep, bool asleep_by_half);
  [[nodiscard]] Holdings holds(const TierSubject& subject) const;

  Options options_;
  Capability capability_;
  std::mutex mutex_;
  std::map<base::InstanceId, Asleep> asleep_;
};

}  // namespace thaw::node
