#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "node/oci/tar_reader.h"

/// What becomes of a layer after a stranger's files were unpacked. Nobody else writes there any more. Blocking; as root.
namespace thaw::node {

struct TreeSize {
  std::uint64_t bytes = 0;  ///< on disk
  std::uint64_t entries = 0;
};

/// Makes all below `directory` root's and readable for everybody (sandboxes have uids of their own), without setuid and setgid bits, and removes what
/// is neither file, directory nor link. Follows no link. Fails with exhausted beyond `bounds`, invalid for a path that is too long to be walked.
base::Result<TreeSize> settle_tree(const std::string& directory, LayerBounds bounds);

/// Writes the whiteouts as overlayfs wants them (https://docs.kernel.org/filesystems/overlayfs.html): a character device 0/0 in the place of what is
/// gone, an attribute on directories that hide what is below. Follows no link. Fails with unavailable, and the remedy, on a file system that cannot.
base::Status mark_whiteouts(const std::string& directory, const LayerContents& contents);

}  // namespace thaw::node
