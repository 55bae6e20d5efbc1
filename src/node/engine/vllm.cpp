#include <fmt/format.h>

#include "base/revision.h"
#include "node/engine/adapters.h"
#include "node/engine/image_program.h"
#include "node/engine/launch_parts.h"
#include "node/engine/lora.h"
#include "node/engine/program.h"
#include "node/engine/sleep_api.h"

/// The adapter for vLLM's `vllm serve`, 0.10.2 and later (--uds). Written after its documentation
/// (https://docs.vllm.ai: cli/serve, configuration/env_vars, features/sleep_mode, design/torch_compile) and its source
/// (vllm/entrypoints/openai/api_server.py); never run against a real one here.
///
/// Listening: `--uds PATH`, which makes host and port meaningless. It binds before it loads the model and listens
/// after, so until then connections are refused. GET /health answers 200, or 503 when its engine died.
///
/// Memory: `--gpu-memory-utilization` is the share of the whole GPU that it takes for everything, KV cache included,
/// and it fails to start when less is free. So it is the spec's deviceMemory that decides, and how many tokens fit
/// follows from it. On a CPU the KV cache has VLLM_CPU_KVCACHE_SPACE (GiB; 4 by default) beside the weights, which
/// deviceMemory must cover.
///
/// Requests: `--max-num-seqs` sequences are computed at once; it captures CUDA graphs for as many, so fewer start
/// sooner.
///
/// Sleep: `--enable-sleep-mode` (CUDA and ROCm only: it fails on a CPU), with the calls for it only under
/// VLLM_SERVER_DEV_MODE=1 (sleep_api.h).
namespace thaw::node {
namespace {

const std::vector<std::string_view> kFileFlags{"--chat-template", "--tool-parser-plugin", "--reasoning-parser-plugin"};

const std::vector<Refusal>& refusals() {
  static const std::vector<Refusal> kAll{
      {{"--host", "--port", "--uds", "--root-path", "--fd"},
       {"VLLM_PORT"},
       "the engine listens where only thaw reaches it; leave it out"},
      {{"--api-key", "--ssl-keyfile", "--ssl-certfile", "--ssl-ca-certs", "--ssl-cert-reqs"},
       {"VLLM_API_KEY"},
       "thaw asks for keys itself and speaks plain HTTP to its engines; leave it out"},
      {{"--model", "--download-dir", "--revision"}, {}, "name the model's directory in spec.source.path"},
      {{"--config"}, {}, "give the arguments in spec.args"},
      {{"--served-model-name"}, {}, "the model is called metadata.name"},
      {{"--max-num-seqs"}, {}, "set spec.scaling.targetConcurrency"},
      {{"--gpu-memory-utilization", "--kv-cache-memory-bytes"}, {}, "set spec.resources.deviceMemory"},
      {{"--tensor-parallel-size", "-tp"}, {}, "set spec.resources.devices"},
      {{"--pipeline-parallel-size", "-pp", "--data-parallel-size", "-dp", "--headless", "--nnodes"},
       {},
       "the devices of a replica share its tensors; leave it out"},
      {{}, {"VLLM_SERVER_DEV_MODE"}, "it is set where the engine is to sleep (spec.standby.mode)"},
      {{}, {"CUDA_VISIBLE_DEVICES"}, "set spec.resources.device"}};
  return kAll;
}

}  // namespace

base::Status check_vllm_arguments(const spec::ModelSpec& spec) {
  THAW_RETURN_IF_ERROR(check_user_args(spec, refusals(), kFileFlags));
  const bool asked = gives_flag(spec.args, "--enable-sleep-mode") && gives_flag(spec.args, "--no-enable-sleep-mode");
  if (!asked) return {};
  return base::Error{base::ErrorKind::invalid,
                     fmt::format("cannot deploy model {}: arguments --enable-sleep-mode and --no-enable-sleep-mode "
                                 "contradict each other; leave one out",
                                 spec.name.str())};
}

base::Result<EngineLaunch> plan_vllm(const wire::StartInstance& start, const std::string& program_path,
                                     const LaunchPaths& paths, const CudaLibraries& libraries) {
  const spec::ModelSpec& spec = start.model;
  THAW_RETURN_IF_ERROR(check_vllm_arguments(spec));
  THAW_ASSIGN_OR_RETURN(const Program program, place_engine(spec, program_path, paths));
  EngineLaunch launch;
  launch.engine_dir = program.mount_dir;
  launch.argv = program.argv;
  THAW_ASSIGN_OR_RETURN(const std::string model, show_model(launch, spec, paths));
  launch.argv.insert(launch.argv.end(), {"serve", model, "--served-model-name", base::public_model(spec.name)});
  launch.tcp = paths.socket.empty();
  if (launch.tcp)
    launch.argv.insert(launch.argv.end(), {"--host", paths.address, "--port", std::to_string(paths.port)});
  else
    launch.argv.insert(launch.argv.end(), {"--uds", paths.socket});
  launch.argv.insert(launch.argv.end(), {"--max-num-seqs", std::to_string(spec.scaling.target_concurrency)});
  if (spec.resources.device == spec::DeviceKind::cuda) {
    THAW_ASSIGN_OR_RETURN(const GpuMemory memory, gpu_memory_of(start, libraries));
    launch.argv.insert(
        launch.argv.end(),
        {"--gpu-memory-utilization", fraction(share_bytes(spec), memory.total_bytes)});
    if (spec.resources.devices > 1)
      launch.argv.insert(launch.argv.end(), {"--tensor-parallel-size", std::to_string(spec.resources.devices)});
  }
  if (sleep_api_of(spec) == SleepApi::vllm) {
    launch.env["VLLM_SERVER_DEV_MODE"] = "1";
    if (!gives_flag(spec.args, "--enable-sleep-mode")) launch.argv.emplace_back("--enable-sleep-mode");
  }
  THAW_RETURN_IF_ERROR(add_adapters(launch, spec, paths));
  THAW_RETURN_IF_ERROR(add_user_args(launch, spec, paths, kFileFlags));

  show_device(launch, start);
  set_python_environment(launch, spec);
  launch.env["VLLM_NO_USAGE_STATS"] = "1";
  set_environment(launch, spec, paths, program.bin_dir);
  return launch;
}

}  // namespace thaw::node
