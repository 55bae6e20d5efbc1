#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "node/sandbox/runsc.h"
#include "node/tiers/driver.h"
#include "node/tiers/wait_answer.h"

namespace thaw::node {

/// Images by gVisor's checkpoint of a whole sandbox: its kernel, its processes, their memory. Files that are mapped
/// read-only stay outside, so weights are not in it unless the engine copied them (llama.cpp repacks quantised ones).
/// Any number of replicas come up from one image, each in a sandbox of its own with the same inner address.
///
///     down: checkpoint, which ends the sandbox ─► standby (the image)      up: a new sandbox ─► restore ─► health
///     check
///       failed: the sandbox survived ─► ready, else lost                     failed: the new sandbox goes ─► standby
///
/// A checkpoint cannot hold open connections: whoever asks for one has closed its own, and the engine must have
/// noticed.
class RunscDriver : public TierDriver {
 public:
  /// A sandbox that RunscMaker::make_for_restore() made, or null.
  using Take = std::function<std::unique_ptr<Sandbox>()>;

  /// `maker`: outlives the driver; or why there is none. `engine_paths`: as in AgentConfig. `take`: from a pool, where
  /// there is one.
  RunscDriver(base::Result<RunscMaker*> maker, std::map<std::string, std::string> engine_paths,
              Probe probe = probe_ready, Take take = {});

  [[nodiscard]] std::string_view name() const override { return "runsc"; }
  [[nodiscard]] const Capability& capability() const override { return capability_; }
  [[nodiscard]] Keeps keeps() const override { return Keeps::image; }
  [[nodiscard]] base::Status accepts(const TierSubject& subject) const override;
  [[nodiscard]] TierEstimate estimate(const TierSubject& subject) const override;
  [[nodiscard]] TierOutcome down(const TierSubject& subject, const TierCall& call) override;
  [[nodiscard]] TierOutcome up(const TierSubject& subject, const TierCall& call) override;
  base::Status discard(const TierSubject& subject) override;

 private:
  [[nodiscard]] base::Result<std::unique_ptr<Sandbox>> furnished(base::InstanceId instance,
                                                                 const SandboxContents& contents) const;
  [[nodiscard]] base::Result<std::unique_ptr<Sandbox>> come_up(const TierSubject& subject, const TierCall& call,
                                                               TierOutcome& outcome) const;

  RunscMaker* maker_ = nullptr;
  std::map<std::string, std::string> engine_paths_;
  Probe probe_;
  Take take_;
  Capability capability_;
};

}  // namespace thaw::node
