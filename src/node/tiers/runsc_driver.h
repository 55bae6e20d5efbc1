#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "node/sandbox/runsc.h"
#include "node/tiers/image_driver.h"

namespace thaw::node {

/// Images by gVisor's checkpoint of a whole sandbox: its kernel, its processes, their memory. Files that are mapped
/// read-only stay outside, so weights are not in it unless the engine copied them (llama.cpp repacks quantised ones).
/// Every sandbox has the same inner address, at which a restored engine listens on.
class RunscDriver : public ImageDriver {
 public:
  /// A sandbox that RunscMaker::make_for_restore() made, or null.
  using Take = std::function<std::unique_ptr<Sandbox>()>;

  /// `maker`: outlives the driver; or why there is none. `engine_paths`: as in AgentConfig. `take`: from a pool, where
  /// there is one.
  RunscDriver(base::Result<RunscMaker*> maker, std::map<std::string, std::string> engine_paths,
              Probe probe = probe_ready, Take take = {});

  [[nodiscard]] std::string_view name() const override { return "runsc"; }
  [[nodiscard]] base::Status accepts(const TierSubject& subject) const override;

 protected:
  base::Status save(const TierSubject& subject, const TierCall& call) override;
  base::Result<std::unique_ptr<Sandbox>> come_up(const TierSubject& subject, const EngineLaunch& launch, const TierCall& call,
                                                 PhaseClock& clock) override;
  [[nodiscard]] LaunchPaths view(base::InstanceId instance) const override { return maker_->view(instance); }
  [[nodiscard]] double bytes_per_s() const override;

 private:
  [[nodiscard]] base::Result<std::unique_ptr<Sandbox>> furnished(base::InstanceId instance,
                                                                 const SandboxContents& contents) const;

  RunscMaker* maker_ = nullptr;
  Take take_;
};

}  // namespace thaw::node
