#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "node/sandbox/home.h"
#include "node/sandbox/runsc_info.h"
#include "node/sandbox/sandbox.h"

namespace thaw::node {

/// Sandboxes as gVisor containers: the engine runs on a kernel of its own in user space, which itself may do little on
/// the host.
///
///     thaw (NamespaceThread) ── thaw-init, first in a pid namespace ── runsc ── sandbox (engine inside), file server
///            │                        all in one control group of ours, with its limits: runsc sets none itself
///            └── inner network, private mounts (stage.h)
///
/// runsc is attached: it ends with thaw-init, and its sandbox with it. The engine's exit status comes back as runsc's
/// own. The engine answers on TCP in a network of its own (network.h).
class RunscMaker : public SandboxMaker {
 public:
  /// Makes the shared root. Fails, with the remedy, when runsc is missing or the kernel is older than 5.12.
  static base::Result<std::unique_ptr<RunscMaker>> open(SandboxHome home);

  [[nodiscard]] const RunscInfo& info() const { return info_; }

  [[nodiscard]] LaunchPaths view(base::InstanceId instance) const override;
  /// Nothing of gVisor runs until Sandbox::run(). Fails with unavailable, and the remedy, for contents with device
  /// nodes when this runsc has no nvproxy.
  base::Result<std::unique_ptr<Sandbox>> make(base::InstanceId instance, const SandboxContents& contents) override;
  /// Never: what takes the time is runsc, which wants to know the contents.
  base::Result<std::unique_ptr<Sandbox>> make_empty() override;

  /// True for a sandbox that this maker made and that lives.
  [[nodiscard]] bool made(const Sandbox& sandbox) const;

  /// Writes the state of everything in the sandbox to files in `directory` (which exists and is empty) and ends it.
  /// Blocking, up to `timeout`. The engine must have no connection open. On an error the sandbox may have ended all the
  /// same.
  base::Status checkpoint(const Sandbox& sandbox, const std::string& directory, base::Duration timeout);

  /// As Sandbox::run(), in a fresh sandbox with the same contents, from what checkpoint() wrote. `argv` and `env` must
  /// be those of then. Returns when runsc has its orders. `directory` is only read, by any number of sandboxes at once.
  base::Status restore(Sandbox& sandbox, const std::string& directory, const std::vector<std::string>& argv,
                       const std::map<std::string, std::string>& env);

 private:
  struct Box;
  RunscMaker(SandboxHome home, RunscInfo info) : home_(std::move(home)), info_(std::move(info)) {}
  base::Result<std::unique_ptr<Sandbox>> make_named(const std::shared_ptr<Box>& box, const SandboxContents& contents);
  base::Status furnish(Box& box, const SandboxContents& contents, int control_fd, int output_fd, pid_t& pid);
  base::Result<std::vector<std::string>> launch(Box& box, const std::vector<std::string>& argv,
                                                const std::map<std::string, std::string>& env) const;
  [[nodiscard]] std::shared_ptr<Box> find(const std::string& name) const;
  void release(Box& box);

  SandboxHome home_;
  RunscInfo info_;
  mutable std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Box>> boxes_;  ///< that live, by name
  std::uint64_t made_ = 0;
};

}  // namespace thaw::node
