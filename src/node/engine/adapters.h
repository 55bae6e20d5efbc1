#pragma once

#include "node/engine/engine.h"

/// One function an engine: plan_launch for it. Each stands in a file of its name, with what is known of the engine's
/// flags and where that is written.
namespace thaw::node {

base::Result<EngineLaunch> plan_llama_cpp(const wire::StartInstance& start, const std::string& program,
                                          const LaunchPaths& paths);
base::Result<EngineLaunch> plan_vllm(const wire::StartInstance& start, const std::string& program,
                                     const LaunchPaths& paths, const CudaLibraries& libraries);
base::Result<EngineLaunch> plan_sglang(const wire::StartInstance& start, const std::string& program,
                                       const LaunchPaths& paths, const CudaLibraries& libraries);
base::Result<EngineLaunch> plan_command(const wire::StartInstance& start, const std::string& program,
                                        const LaunchPaths& paths);

base::Status check_vllm_arguments(const spec::ModelSpec& spec);
base::Status check_sglang_arguments(const spec::ModelSpec& spec);

}  // namespace thaw::node
