#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "node/sandbox/home.h"
#include "node/sandbox/sandbox.h"

namespace thaw::node {

/// Sandboxes as runc containers. Each has a range of uids of its own, so that two engines are strangers to each other as well as to the host.
class RuncMaker : public SandboxMaker {
 public:
  /// Makes the shared root and the runtime's directory. Fails, with the remedy, when runc is missing.
  static base::Result<std::unique_ptr<RuncMaker>> open(SandboxHome home);

  [[nodiscard]] LaunchPaths view(base::InstanceId instance) const override;
  base::Result<std::unique_ptr<Sandbox>> make(base::InstanceId instance, const SandboxContents& contents) override;
  base::Result<std::unique_ptr<Sandbox>> make_empty() override;

 private:
  RuncMaker(SandboxHome home, std::string runc) : home_(std::move(home)), runc_(std::move(runc)) {}
  base::Result<std::unique_ptr<Sandbox>> make_named(const std::string& name, std::uint32_t uid_slot, const SandboxContents& contents, bool fixed);
  base::Result<std::unique_ptr<Sandbox>> make_any(const SandboxContents& contents, bool fixed);

  SandboxHome home_;
  std::string runc_;
  std::mutex mutex_;
  std::uint64_t made_ = 0;
};

/// Full path of runc, or an error with the remedy.
base::Result<std::string> find_runc();

}  // namespace thaw::node
