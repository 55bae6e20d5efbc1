#include <filesystem>

#include <fmt/format.h>

#include "base/revision.h"
#include "node/engine/adapters.h"
#include "node/engine/image_program.h"
#include "node/engine/launch_parts.h"
#include "node/engine/lora.h"
#include "node/engine/program.h"
#include "node/engine/sleep_api.h"

/// The adapter for SGLang's `python3 -m sglang.launch_server`, 0.5.3 and later (--enable-weights-cpu-backup). Written
/// after its documentation (https://docs.sglang.io/advanced_features/server_arguments.html, …/sglang_for_rl.html,
/// …/references/environment_variables.html) and its source (python/sglang/srt/entrypoints/http_server.py); never run
/// against a real one here.
///
/// Listening: on TCP only. In a sandbox that is the loopback of a network namespace of its own, into which the node
/// dials.
///
/// Health: /health generates a token by default, and looks for it once a second.
/// SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION=false makes it 503 while the server starts and 200 afterwards, at once.
///
/// Memory: `--mem-fraction-static` is the share of what is free on the GPU at its start that weights and KV cache take
/// together; activations and CUDA graphs come on top. kStaticShare of the spec's deviceMemory is for the former.
///
/// Sleep: `--enable-memory-saver`. What is released is gone, so weights need their copy in host memory
/// (`--enable-weights-cpu-backup`): without it a server that was resumed computes with whatever lies there.
namespace thaw::node {
namespace {

constexpr double kStaticShare = 0.85;

const std::vector<std::string_view> kFileFlags{"--chat-template"};

const std::vector<Refusal>& refusals() {
  static const std::vector<Refusal> kAll{
      {{"--host", "--port", "--fastapi-root-path", "--grpc-mode"},
       {},
       "the engine listens where only thaw reaches it; leave it out"},
      {{"--api-key", "--admin-api-key", "--ssl-keyfile", "--ssl-certfile"},
       {},
       "thaw asks for keys itself and speaks plain HTTP to its engines; leave it out"},
      {{"--model-path", "--model", "--download-dir", "--revision"},
       {},
       "name the model's directory in spec.source.path"},
      {{"--config"}, {}, "give the arguments in spec.args"},
      {{"--served-model-name"}, {}, "the model is called metadata.name"},
      {{"--max-running-requests"}, {}, "set spec.scaling.targetConcurrency"},
      {{"--mem-fraction-static"}, {}, "set spec.resources.deviceMemory"},
      {{"--tensor-parallel-size", "--tp-size", "--tp"}, {}, "set spec.resources.devices"},
      {{"--data-parallel-size", "--dp-size", "--dp", "--pipeline-parallel-size", "--pp-size", "--nnodes"},
       {},
       "the devices of a replica share its tensors; leave it out"},
      {{"--device"}, {"CUDA_VISIBLE_DEVICES"}, "set spec.resources.device"},
      {{}, {"SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION"}, "leave it out"}};
  return kAll;
}

/// In an environment, or when the program is an interpreter, the module is run; anything else is taken for a program
/// that takes the same arguments.
void add_program(EngineLaunch& launch, const Program& program) {
  const bool interpreter = std::filesystem::path(program.argv.back()).filename().string().starts_with("python");
  launch.argv = !program.python.empty() ? std::vector{program.python} : program.argv;
  if (interpreter || !program.python.empty()) launch.argv.insert(launch.argv.end(), {"-m", "sglang.launch_server"});
}

}  // namespace

base::Status check_sglang_arguments(const spec::ModelSpec& spec) {
  THAW_RETURN_IF_ERROR(check_user_args(spec, refusals(), kFileFlags));
  if (spec.standby.weights != spec::SleepingWeights::disk) return {};
  return base::Error{
      base::ErrorKind::invalid,
      fmt::format("cannot deploy model {}: spec.standby.weights: disk is not for SGLang, which sleeps with its "
                  "weights in host memory; use host or auto",
                  spec.name.str())};
}

base::Result<EngineLaunch> plan_sglang(const wire::StartInstance& start, const std::string& program_path,
                                       const LaunchPaths& paths, const CudaLibraries& libraries) {
  const spec::ModelSpec& spec = start.model;
  THAW_RETURN_IF_ERROR(check_sglang_arguments(spec));
  THAW_ASSIGN_OR_RETURN(const Program program, place_engine(spec, program_path, paths));
  EngineLaunch launch;
  launch.engine_dir = program.mount_dir;
  launch.tcp = true;
  add_program(launch, program);
  THAW_ASSIGN_OR_RETURN(const std::string model, show_model(launch, spec, paths));
  launch.argv.insert(launch.argv.end(), {"--model-path", model, "--served-model-name", base::public_model(spec.name), "--host",
                                         paths.address, "--port", std::to_string(paths.port), "--max-running-requests",
                                         std::to_string(spec.scaling.target_concurrency)});
  if (spec.resources.device == spec::DeviceKind::cuda) {
    THAW_ASSIGN_OR_RETURN(const GpuMemory memory, gpu_memory_of(start, libraries));
    const double static_bytes = static_cast<double>(share_bytes(spec)) * kStaticShare;
    launch.argv.insert(launch.argv.end(), {"--mem-fraction-static",
                                           fraction(static_cast<std::uint64_t>(static_bytes), memory.free_bytes)});
    if (spec.resources.devices > 1) launch.argv.insert(launch.argv.end(), {"--tp-size", std::to_string(spec.resources.devices)});
  } else {
    launch.argv.insert(launch.argv.end(), {"--device", "cpu"});
  }
  if (sleep_api_of(spec) == SleepApi::sglang) {
    for (const char* flag : {"--enable-memory-saver", "--enable-weights-cpu-backup"})
      if (!gives_flag(spec.args, flag)) launch.argv.emplace_back(flag);
  }
  THAW_RETURN_IF_ERROR(add_adapters(launch, spec, paths));
  THAW_RETURN_IF_ERROR(add_user_args(launch, spec, paths, kFileFlags));

  show_device(launch, start);
  set_python_environment(launch, spec);
  launch.env["SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION"] = "false";
  set_environment(launch, spec, paths, program.bin_dir);
  return launch;
}

}  // namespace thaw::node
