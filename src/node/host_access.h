#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "node/sandbox/fd.h"

namespace thaw::node {

/// A capability that sandboxes need, and what for.
struct NeededCapability {
  const char* name;
  int number;
  const char* purpose;
};
const std::vector<NeededCapability>& needed_capabilities();

/// Ok when this process may make sandboxes: uid 0 with at least needed_capabilities(). The error lists what is missing.
base::Status check_privileges();

/// What gVisor sandboxes need on top. The error lists what is missing.
base::Status check_network_privileges();

/// Exclusive use of a data directory for as long as the descriptor lives; the kernel lets go at a kill -9. Fails with conflict when another server
/// has it.
base::Result<Fd> lock_data_dir(const std::string& data_dir);

/// Orphans of runc become children of this process instead of init's, so that an engine's exit status is ours to read. For the whole process.
base::Status adopt_orphans();

}  // namespace thaw::node
