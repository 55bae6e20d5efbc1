#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "node/sandbox/mounts.h"

/// The problem: gVisor's file server opens what a sandbox is shown by its path on the host, as the sandbox's own
/// unprivileged root, to which a directory such as /root is closed. And its network start-up takes the host's for the
/// root namespace on newer kernels. So runsc is started in a mount namespace of its own, in which everything to be
/// shown lies in one open place: the stage.
namespace thaw::node {

struct Stage {
  std::string directory;            ///< of the host, empty, reachable by anybody; covered by a tmpfs
  std::vector<Exposure> exposures;  ///< each appears at directory + inside_path
  bool open = false;                ///< more may be shown later (add_to_stage())
  std::string unmount_below;  ///< mounts of the host below this directory go from the namespace: copies here would keep
                              ///< them alive
};

/// Where an inside path is found on the stage.
inline std::string staged(const Stage& stage, const std::string& inside_path) {
  return stage.directory + inside_path;
}

/// Moves the calling thread into a mount namespace of its own that has the stage. Nothing appears in the host's mount
/// table, and the stage goes with the last process and thread in it. Call in the sandbox's network namespace.
///
/// Returns the directory that is to cover /proc/sys once the sandbox's own /proc is mounted, empty where none is
/// needed: Debian's runsc (20221219) says "cannot run with network enabled in root network namespace" when it sees
/// /proc/sys/net/core/rmem_default, which kernels since 6.x show in every namespace. The cover holds what else it
/// reads: vm, kernel and fs.
base::Result<std::string> set_stage(const Stage& stage);

/// Shows more on an open stage, also to what was started with it before. Call on the thread that set it. What is below
/// a directory that a sandbox was given when it was made appears inside.
base::Status add_to_stage(const Stage& stage, const std::vector<Exposure>& exposures);

}  // namespace thaw::node
