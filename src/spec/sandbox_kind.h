#pragma once

namespace thaw::spec {

/// What confines an engine.
enum class SandboxKind {
  runc,   ///< kernel namespaces: fast; the engine calls the host's kernel, through a filter
  runsc,  ///< gVisor: a kernel of its own in user space; can be checkpointed
  none,   ///< nothing; for development
};
const char* to_string(SandboxKind kind);  ///< as written in a spec: "runc", "runsc", "none"

}  // namespace thaw::spec
