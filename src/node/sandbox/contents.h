#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "node/sandbox/mounts.h"
#include "node/sandbox/sandbox.h"

namespace thaw::node {

/// Host directories inside a sandbox's own: shown to the engine at kInsideRun and kInsideModel.
inline std::string run_dir_of(const std::string& sandbox_dir) { return sandbox_dir + "/run"; }
inline std::string image_root_of(const std::string& sandbox_dir) { return sandbox_dir + "/root"; }
inline std::string model_dir_of(const std::string& sandbox_dir) { return sandbox_dir + "/model"; }

/// Writes the secrets into the sandbox's directory, for `engine_uid` to read. Returns where each of the contents is shown.
base::Result<std::vector<Exposure>> lay_out(const std::string& sandbox_dir, std::uint32_t engine_uid, const SandboxContents& contents);

/// An empty file (or directory) for each of the model's, for the mount to cover.
base::Status make_placeholders(const std::string& sandbox_dir, const SandboxContents& contents);

}  // namespace thaw::node
