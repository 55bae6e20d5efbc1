#pragma once

#include "node/sandbox/cgroup.h"
#include "spec/model_spec.h"

namespace thaw::node {

/// What the kernel holds an instance of this model to. deviceMemory is what the books reserve; the limit is a safety net above it, so that
/// an engine within its estimate never meets it:
///   CPU:  deviceMemory + (hostMemory, or 256 MiB + deviceMemory / 8)
///   CUDA: hostMemory, or 4 GiB + deviceMemory (weights on their way to the device pass through the page cache)
/// A gVisor sandbox's own kernel, file server and watcher are in the same group: 128 MiB and 512 threads on top.
CgroupLimits limits_for(const spec::ModelSpec& model, spec::SandboxKind sandbox);

}  // namespace thaw::node
