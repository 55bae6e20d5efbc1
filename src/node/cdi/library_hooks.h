#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "node/cdi/cdi_spec.h"

/// The problem: a vendor's CDI file mounts libraries into a root that knows nothing of them, and has hooks that put
/// them in order there: NVIDIA's make links and run ldconfig, as root, on a stranger's files (CVE-2024-0132,
/// CVE-2025-23266). Thaw runs none of them. With the host's own root there is nothing to put in order; in a container
/// image's root it makes what they would have made, in a layer of its own (image_grant.h). Names and arguments:
/// https://github.com/NVIDIA/nvidia-container-toolkit, cmd/nvidia-cdi-hook.
namespace thaw::node {

/// True for a hook of NVIDIA's tools (nvidia-ctk, nvidia-cdi-hook) that is about libraries and their use in a foreign
/// root, and known here.
bool is_library_hook(const CdiHook& hook);

/// A symbolic link inside.
struct GrantedLink {
  std::string path;    ///< where it is; absolute, without ".."
  std::string target;  ///< what it says: relative to its directory, or absolute
};

/// What hooks would do, as far as it is done.
struct LibraryHooks {
  std::vector<GrantedLink> links;    ///< of create-symlinks (`--link TARGET::PATH`), in their order
  std::vector<std::string> folders;  ///< of update-ldcache and create-soname-symlinks (`--folder PATH`), each once
};

/// Reads these hooks. Of no effect are those that need no deed: enable-cuda-compat (libraries of the image's own: an
/// image that is newer than the driver asks for them itself), chmod, and what keeps the driver from making device
/// files, for which engines have no right. Fails with invalid, naming hook and remedy, for any other hook, and for
/// links and folders that are not written as they must be.
base::Result<LibraryHooks> read_library_hooks(const std::vector<CdiHook>& hooks);

}  // namespace thaw::node
