#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "node/sandbox/sandbox.h"

namespace thaw::node {

/// Where the node keeps its sandboxes, and under which label.
struct SandboxHome {
  std::string directory;  ///< /run/thaw/<label>: short, because a socket's path has 107 bytes; gone after a reboot, like the sandboxes
  std::string label;      ///< of the data directory; names control groups and runtime state
  std::string init_path;  ///< the thaw-init binary
  std::string lazy_map_path;  ///< libthaw_lazy_map.so; empty: there is none
  std::uint32_t uid_base = 0;
  std::shared_ptr<const CgroupHost> cgroups;  ///< null: none can be made (only without sandboxes)

  [[nodiscard]] std::string rootfs() const { return directory + "/rootfs"; }
  [[nodiscard]] std::string boxes() const { return directory + "/boxes"; }
  [[nodiscard]] std::string runtime_root() const { return directory + "/runc"; }
};

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
  base::Result<std::uint32_t> take_uid_slot();
  void free_uid_slot(std::uint32_t slot);

  SandboxHome home_;
  std::string runc_;
  std::mutex mutex_;
  std::set<std::uint32_t> used_slots_;
  std::uint64_t made_ = 0;
};

/// Full path of runc, or an error with the remedy.
base::Result<std::string> find_runc();

}  // namespace thaw::node
