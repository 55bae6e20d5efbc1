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
  /// Of the mounts in a sandbox. Another one makes images useless.
  static constexpr int kLayout = 2;

  /// Makes the shared root. Fails, with the remedy, when runsc is missing or the kernel is older than 5.12.
  static base::Result<std::unique_ptr<RunscMaker>> open(SandboxHome home);

  [[nodiscard]] const RunscInfo& info() const { return info_; }

  [[nodiscard]] LaunchPaths view(base::InstanceId instance) const override;
  /// None: what a sandbox made ahead shows was settled before anybody knew of a cache, and an image must find what it saw.
  [[nodiscard]] std::string cache_view(const std::string& /*cache_dir*/) const override { return {}; }
  /// Nothing of gVisor runs until Sandbox::run(): a restore has to know its contents. Fails with unavailable, and the
  /// remedy, for contents with device nodes when this runsc has no nvproxy.
  base::Result<std::unique_ptr<Sandbox>> make(base::InstanceId instance, const SandboxContents& contents) override;
  /// gVisor is up when this returns, after some 0.3 s, and thaw-init waits inside for Sandbox::run().
  base::Result<std::unique_ptr<Sandbox>> make_empty() override;
  /// The same for restore(): gVisor is up, nothing runs in it, and runsc waits to be told the image.
  base::Result<std::unique_ptr<Sandbox>> make_for_restore();

  /// True for a sandbox that this maker made and that lives.
  [[nodiscard]] bool made(const Sandbox& sandbox) const;

  /// Writes the state of everything in the sandbox to files in `directory` (which exists and is empty) and ends it.
  /// Blocking, up to `timeout`. The engine must have no connection open. On an error the sandbox may have ended all the
  /// same.
  base::Status checkpoint(const Sandbox& sandbox, const std::string& directory, base::Duration timeout);

  /// As Sandbox::run(), in a sandbox with the same contents that make() or make_for_restore() made, from what
  /// checkpoint() wrote. `argv` and `env` must be those of then. Returns when runsc has its orders. `directory` is only
  /// read, by any number of sandboxes at once.
  base::Status restore(Sandbox& sandbox, const std::string& directory, const std::vector<std::string>& argv,
                       const std::map<std::string, std::string>& env);

 private:
  struct Box;
  RunscMaker(SandboxHome home, RunscInfo info) : home_(std::move(home)), info_(std::move(info)) {}
  struct Ends;
  enum class Ahead { no, for_start, for_restore };
  base::Result<std::unique_ptr<Sandbox>> make_any(const SandboxContents& contents, Ahead ahead);
  base::Result<std::unique_ptr<Sandbox>> make_named(const std::shared_ptr<Box>& box, const SandboxContents& contents);
  [[nodiscard]] std::uint32_t engine_uid(const Box& box) const;
  base::Status set_up(Box& box, const SandboxContents& contents, const Ends& ends, pid_t& pid);
  base::Result<std::vector<std::string>> launch(Box& box, const std::vector<std::string>& argv,
                                                const std::map<std::string, std::string>& env) const;
  /// What starts before the contents are known, and waits for them.
  base::Status begin(Box& box, Sandbox& sandbox, int output, Fd feed) const;
  [[nodiscard]] std::shared_ptr<Box> find(const std::string& name) const;
  void release(Box& box);

  SandboxHome home_;
  RunscInfo info_;
  mutable std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Box>> boxes_;  ///< that live, by name
  std::uint64_t made_ = 0;
};

}  // namespace thaw::node
