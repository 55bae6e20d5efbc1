#pragma once

#include <map>
#include <memory>
#include <string>

#include "node/sandbox/runc.h"
#include "node/tiers/image_driver.h"

namespace thaw::node {

/// Images by criu's dump of a whole runc sandbox (RuncMaker::checkpoint()): its processes and their memory. Files that
/// are mapped privately and were not written to stay outside, as weights do. On the CPU only: criu's plugin for CUDA
/// needs tools of NVIDIA's inside the sandbox. Engines that listen on a Unix socket only: nobody restores TCP over a
/// loopback interface that is not up yet.
class CriuDriver : public ImageDriver {
 public:
  /// `maker`: outlives the driver; or why there is none. `engine_paths`: as in AgentConfig.
  CriuDriver(base::Result<RuncMaker*> maker, std::map<std::string, std::string> engine_paths,
             Probe probe = probe_ready);

  [[nodiscard]] std::string_view name() const override { return "criu"; }
  [[nodiscard]] base::Status accepts(const TierSubject& subject) const override;

 protected:
  base::Status save(const TierSubject& subject, const TierCall& call) override;
  base::Result<std::unique_ptr<Sandbox>> come_up(const TierSubject& subject, const EngineLaunch& launch,
                                                 const TierCall& call, PhaseClock& clock) override;
  [[nodiscard]] LaunchPaths view(base::InstanceId instance) const override { return maker_->view(instance); }
  [[nodiscard]] double bytes_per_s() const override { return 1e9; }

 private:
  RuncMaker* maker_ = nullptr;
};

}  // namespace thaw::node
