#pragma once

#include "base/result.h"
#include "node/sandbox/runc.h"

namespace thaw::node {

/// The problem: after a kill -9 there is nobody to clean up. Finds by its label everything that an earlier life with the same data directory left
/// (processes, control groups, mounts, runtime state, files), kills and removes it. Call while holding the data directory's lock, before the first
/// sandbox. Bounded. Fails when something cannot be removed, naming it. Returns the number of sandboxes it removed.
base::Result<int> remove_leftovers(const SandboxHome& home);

}  // namespace thaw::node
