#pragma once

#include <map>
#include <memory>
#include <string>

#include "node/engine/engine.h"
#include "node/tiers/driver.h"
#include "node/tiers/phases.h"
#include "node/tiers/wait_answer.h"

namespace thaw::node {

/// What drivers have in common that write a whole sandbox to files. Any number of replicas come up from one image, each
/// in a sandbox of its own.
///
///     down: save(), which ends the sandbox ─► standby (the image)          up: come_up() ─► health check
///       failed: the sandbox survived ─► ready, else lost                     failed: the new sandbox goes ─► standby
///
/// An image cannot hold open connections: whoever asks for one has closed its own, and the engine must have noticed.
class ImageDriver : public TierDriver {
 public:
  [[nodiscard]] const Capability& capability() const override { return capability_; }
  [[nodiscard]] Keeps keeps() const override { return Keeps::image; }
  [[nodiscard]] TierEstimate estimate(const TierSubject& subject) const override;
  [[nodiscard]] TierOutcome down(const TierSubject& subject, const TierCall& call) override;
  [[nodiscard]] TierOutcome up(const TierSubject& subject, const TierCall& call) override;
  base::Status discard(const TierSubject& subject) override;

 protected:
  /// `engine_paths`: as in AgentConfig.
  ImageDriver(Capability capability, std::map<std::string, std::string> engine_paths, Probe probe)
      : capability_(std::move(capability)), engine_paths_(std::move(engine_paths)), probe_(std::move(probe)) {}

  /// Writes subject.sandbox to subject.image, an empty directory, and ends it. On an error it may have ended.
  virtual base::Status save(const TierSubject& subject, const TierCall& call) = 0;
  /// A limited sandbox with these contents, in which the engine of subject.image goes on, or is about to.
  virtual base::Result<std::unique_ptr<Sandbox>> come_up(const TierSubject& subject, const EngineLaunch& launch,
                                                         const TierCall& call, PhaseClock& clock) = 0;
  /// Where an engine in such a sandbox finds things.
  [[nodiscard]] virtual LaunchPaths view(base::InstanceId instance) const = 0;
  [[nodiscard]] virtual double bytes_per_s() const = 0;  ///< before anything was measured

 private:
  [[nodiscard]] base::Result<std::unique_ptr<Sandbox>> answering(const TierSubject& subject, const TierCall& call,
                                                                 TierOutcome& outcome);

  Capability capability_;
  std::map<std::string, std::string> engine_paths_;
  Probe probe_;
};

/// What an error says as a capability: "why; remedy".
Capability incapable(const base::Error& error);

}  // namespace thaw::node
