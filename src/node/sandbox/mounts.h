#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/result.h"

namespace thaw::node {

/// One host path shown inside a sandbox, read-only unless it says otherwise.
struct Exposure {
  std::string host_path;    ///< a file or a directory
  std::string inside_path;  ///< exists there already, of the same kind
  bool executable = false;  ///< the engine's directory; data is mounted noexec
  bool writable = false;    ///< the engine's cache
};

/// True when this kernel can put mounts into a running sandbox (open_tree, move_mount: Linux 5.2; mount_setattr: 5.12).
bool can_inject_mounts();

/// The problem: a sandbox made ahead must be shown the model it turned out to be for. Takes a detached copy of each path, read-only or not, and attaches it
/// in the mount namespace of process `pid`. Nothing appears in the host's mount table, and the mounts go with the sandbox.
/// Blocking (well under a millisecond); needs CAP_SYS_ADMIN and CAP_SYS_CHROOT. Fails with unavailable when the kernel cannot.
base::Status inject_mounts(pid_t pid, const std::vector<Exposure>& exposures);

/// The same in the calling thread's own mount namespace: copies at the inside paths, which exist.
base::Status attach_mounts(const std::vector<Exposure>& exposures);

/// Host mount points at or below `directory`, innermost first.
std::vector<std::string> mounts_below(const std::string& directory);

}  // namespace thaw::node
