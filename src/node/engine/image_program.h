#pragma once

#include <string>

#include "base/result.h"
#include "node/engine/engine.h"
#include "node/engine/program.h"
#include "node/oci/image_json.h"

namespace thaw::node {

/// How the engine is called: place_program() of what find_engine() found, or with LaunchPaths::image what the container image has:
///
///     command    the first word of spec.command, a path inside or a name for the image's PATH;
///                without it the image's entrypoint, whose arguments are spec.args
///
///     others     spec.enginePath, a path inside; else the image's entrypoint if that is the engine;
///                else its usual program by name: llama-server, vllm, python3 -m sglang.launch_server
///
/// Fails (invalid) for an image without an entrypoint where it is needed.
base::Result<Program> place_engine(const spec::ModelSpec& spec, const std::string& engine_binary, const LaunchPaths& paths);

/// The image's variables, but for those that are set already and HOME: nothing of a root is writable, and /tmp is.
void set_image_environment(EngineLaunch& launch, const OciConfig& image);

}  // namespace thaw::node
