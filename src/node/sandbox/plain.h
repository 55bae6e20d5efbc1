#pragma once

#include <memory>

#include "node/sandbox/runc.h"
#include "node/sandbox/sandbox.h"

namespace thaw::node {

/// --sandbox=none, for development: the engine is an ordinary process of ours that sees the whole host. Limited by a control group where
/// this user may make one. It dies with the thread that called make(): that thread must live as long as the node.
class PlainMaker : public SandboxMaker {
 public:
  explicit PlainMaker(SandboxHome home) : home_(std::move(home)) {}

  [[nodiscard]] LaunchPaths view(base::InstanceId instance) const override;
  [[nodiscard]] std::string cache_view(const std::string& cache_dir) const override { return cache_dir; }
  base::Result<std::unique_ptr<Sandbox>> make(base::InstanceId instance, const SandboxContents& contents) override;
  base::Result<std::unique_ptr<Sandbox>> make_empty() override;

 private:
  [[nodiscard]] std::string directory_of(base::InstanceId instance) const;
  base::Result<std::unique_ptr<Sandbox>> make_in(const std::string& name, const std::string& directory);

  SandboxHome home_;
};

}  // namespace thaw::node
