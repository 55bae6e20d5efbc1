#include "node/engine/engine.h"

#include "node/engine/adapters.h"

namespace thaw::node {

base::Result<EngineLaunch> plan_launch(const wire::StartInstance& start, const std::string& engine_binary,
                                       const LaunchPaths& paths, const CudaLibraries& libraries) {
  switch (start.model.engine) {
    case spec::EngineKind::llama_cpp:
      break;
    case spec::EngineKind::vllm:
      return plan_vllm(start, engine_binary, paths, libraries);
    case spec::EngineKind::sglang:
      return plan_sglang(start, engine_binary, paths, libraries);
    case spec::EngineKind::command:
      return plan_command(start, engine_binary, paths);
  }
  return plan_llama_cpp(start, engine_binary, paths);
}

base::Status check_arguments(const spec::ModelSpec& spec) {
  switch (spec.engine) {
    case spec::EngineKind::vllm:
      return check_vllm_arguments(spec);
    case spec::EngineKind::sglang:
      return check_sglang_arguments(spec);
    case spec::EngineKind::llama_cpp:
    case spec::EngineKind::command:
      return {};
  }
  return {};
}

}  // namespace thaw::node
