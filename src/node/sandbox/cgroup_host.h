#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"

namespace thaw::node {

/// How this host keeps its control groups. Three layouts are in the field: v2 alone (one tree), v1 (a tree a controller), and hybrid
/// (v1 controllers, plus a v2 tree without them). Immutable after detect(); any thread.
class CgroupHost {
 public:
  struct Hierarchy {
    std::string mount;                     ///< "/sys/fs/cgroup/memory", "/sys/fs/cgroup"
    std::vector<std::string> controllers;  ///< of a v1 tree: "cpu", "cpuacct"; "name=systemd"
    bool v2 = false;
  };

  /// Reads the mount table and this process's own group. The paths are parameters so that a test can show another host.
  /// Fails, with the remedy, when the controllers memory, cpu or pids are missing.
  static base::Result<std::shared_ptr<const CgroupHost>> detect(const std::string& mountinfo = "/proc/self/mountinfo",
                                                                const std::string& self_cgroup = "/proc/self/cgroup");

  /// True when limits are set in the v2 tree.
  [[nodiscard]] bool unified() const { return unified_; }
  [[nodiscard]] const std::vector<Hierarchy>& hierarchies() const { return hierarchies_; }
  /// Where `controller` lives ("/sys/fs/cgroup/memory"; the v2 mount when unified); empty when there is none.
  [[nodiscard]] std::string mount_of(const std::string& controller) const;

  /// "/thaw/<label>", or "<own group>/sandboxes/<label>" inside a group that systemd delegated to us (Delegate=yes).
  [[nodiscard]] std::string parent_path(const std::string& label) const;

  /// Makes the parent group where its controllers must be enabled from above (v2). In a delegated group it first moves this process
  /// into a leaf, because v2 allows no processes beside sub-groups.
  [[nodiscard]] base::Status prepare_parent(const std::string& label) const;

  /// Removes the parent group and "/thaw" when nothing else is in them.
  void remove_parent(const std::string& label) const;

  /// Names of the groups directly below the parent, in any hierarchy.
  [[nodiscard]] std::vector<std::string> children(const std::string& label) const;

 private:
  [[nodiscard]] bool has(const std::string& controller) const;

  std::vector<Hierarchy> hierarchies_;
  std::string delegated_;  ///< own v2 group when systemd delegated it; else empty
  bool unified_ = false;
};

}  // namespace thaw::node
