#include <algorithm>
#include <filesystem>

#include "base/revision.h"
#include "node/cpu/cores.h"
#include "node/engine/adapters.h"
#include "node/engine/image_program.h"
#include "node/engine/launch_parts.h"
#include "node/engine/llama_args.h"
#include "node/engine/lora.h"

/// The adapter for llama.cpp's llama-server, measured with v0.5.0.
///
/// Context: `-c N` is the whole KV cache; with an explicit `-np S` and no `--kv-unified` it is divided into S equal parts, each rounded up to 256
/// tokens, and a request can use one part (src/llama-context.cpp). Users think in tokens per request, so their `-c` is multiplied by the slots. The
/// server caps a slot at the trained context, whatever it allocated.
///
/// Embeddings: without `--embeddings` /v1/embeddings answers 501; with it, chat and completions work as before, with the same answers, but a model
/// that names no pooling answers 400 unless `--pooling` is given. So both are passed: `last`, because it alone allows inputs longer than a
/// batch, unless the model's header or the user names another. The price is room for a batch of logits, twice (0.5 GB with 128,000 tokens in the
/// vocabulary): where that is more than kMaxUnaskedLogitsBytes and the model was not made for it, only on request ("--embeddings" in spec.args).
/// `--pooling none` in spec.args turns it off.
///
/// Start: `--fit off` saves 6 ms of 65 (1 MB model; the fit would also second-guess the memory that was reserved), `--no-warmup` 3 ms and, with
/// large models, a run over all weights before the first request may come; `--no-ui` and `--device none` 1 ms each.
///
/// Loading: a model is mapped with MAP_POPULATE, and no flag of this release turns that off where memory is of one node. libthaw_lazy_map.so does, so
/// that the engine sets up and computes while the node reads the weights into the page cache (docs/weights.md).
///
/// Memory: `--cache-ram` defaults to 8 GiB of host memory for prompts of idle slots, which no budget knows of: off, unless the user asks.
namespace thaw::node {
namespace {

constexpr const char* kPreload = "LD_PRELOAD";

bool user_gives(const LlamaSettings& settings, std::initializer_list<std::string_view> flags) {
  return std::any_of(settings.user_args.begin(), settings.user_args.end(), [&](const std::string& arg) {
    return std::find(flags.begin(), flags.end(), arg) != flags.end();
  });
}

/// By default the engine splits by what is free at its start: then a share would depend on who else is there. Whole layers, so that devices need not be joined
/// by more than the bus.
void split_evenly(EngineLaunch& launch, std::uint32_t devices, const LlamaSettings& settings) {
  if (devices < 2) return;
  if (!user_gives(settings, {"-sm", "--split-mode"})) launch.argv.insert(launch.argv.end(), {"--split-mode", "layer"});
  if (user_gives(settings, {"-ts", "--tensor-split"})) return;
  std::string split = "1";
  for (std::uint32_t n = 1; n < devices; ++n) split += ",1";
  launch.argv.insert(launch.argv.end(), {"--tensor-split", split});
}

void add_device(EngineLaunch& launch, const wire::StartInstance& start, const LlamaSettings& settings) {
  show_device(launch, start);
  if (start.model.resources.device == spec::DeviceKind::cpu) {
    launch.argv.insert(launch.argv.end(), {"--device", "none"});
    return;
  }
  if (!user_gives(settings, {"-ngl", "--gpu-layers", "--n-gpu-layers"})) launch.argv.insert(launch.argv.end(), {"-ngl", "999"});
  split_evenly(launch, start.model.resources.devices, settings);
}

/// Without a limit the engine has a thread for each core. Each is kept on its own: when engines take turns (cpu/turns_plan.h), the kernel else leaves both
/// threads of the one whose turn it is on one core, where one spins while the other would work.
void add_cores(EngineLaunch& launch, const wire::StartInstance& start, const LlamaSettings& settings) {
  if (start.model.resources.device != spec::DeviceKind::cpu) return;
  if (user_gives(settings, {"-C", "--cpu-mask", "-Cr", "--cpu-range", "--cpu-strict", "-tb", "--threads-batch", "--numa"})) return;
  const std::vector<unsigned> processors = processor_of_each_core();
  if (processors.size() < 2) return;
  launch.argv.insert(launch.argv.end(), {"-t", std::to_string(processors.size()), "--cpu-mask", cpu_mask(processors), "--cpu-strict", "1"});
}

void add_threads(EngineLaunch& launch, const wire::StartInstance& start, const LlamaSettings& settings) {
  const auto cpus = start.model.resources.cpus;
  if (user_gives(settings, {"-t", "--threads"})) return;
  if (!cpus) {
    add_cores(launch, start, settings);
    return;
  }
  // Rounded down: the threads wait for each other at every layer, and one that the quota stops stops all.
  launch.argv.insert(launch.argv.end(), {"-t", std::to_string(std::max(1, static_cast<int>(std::min(*cpus, 1024.0))))});
}

base::Status add_user_args(EngineLaunch& launch, const LlamaSettings& settings, const LaunchPaths& paths) {
  std::vector<std::string> args = settings.user_args;
  for (const std::size_t position : settings.file_args) {
    THAW_RETURN_IF_ERROR(add_model_file(launch, args[position]));
    args[position] = seen_in(paths.model_dir, args[position]);
  }
  launch.argv.insert(launch.argv.end(), args.begin(), args.end());
  return {};
}

}  // namespace

base::Result<EngineLaunch> plan_llama_cpp(const wire::StartInstance& start, const std::string& engine_binary, const LaunchPaths& paths) {
  THAW_ASSIGN_OR_RETURN(const auto model, open_gguf_model(start.model.source.path));
  THAW_ASSIGN_OR_RETURN(const auto settings, read_llama_args(start.model, model.head()));

  EngineLaunch launch;
  if (paths.image != nullptr) {
    THAW_ASSIGN_OR_RETURN(const Program program, place_engine(start.model, engine_binary, paths));
    launch.argv = program.argv;
  } else {
    // A link in a PATH directory leads to where the libraries lie.
    std::error_code error;
    const auto real = std::filesystem::canonical(engine_binary, error);
    const std::string binary = error ? engine_binary : real.string();
    launch.engine_dir = std::filesystem::path(binary).parent_path().string();
    launch.argv = {seen_in(paths.engine_dir, binary)};
  }
  for (const std::string& file : model.files()) THAW_RETURN_IF_ERROR(add_model_file(launch, file));

  launch.argv.insert(launch.argv.end(), {"-m", seen_in(paths.model_dir, model.head().path),
                                         "--host", paths.socket.empty() ? paths.address : paths.socket,
                                         "--alias", base::public_model(start.model.name),
                                         "-np", std::to_string(settings.slots),
                                         "-c", std::to_string(settings.context_tokens * settings.slots),
                                         "--cache-ram", std::to_string(settings.prompt_cache_bytes >> 20)});
  launch.tcp = paths.socket.empty();
  if (launch.tcp) launch.argv.insert(launch.argv.end(), {"--port", std::to_string(paths.port)});
  if (settings.embeddings) launch.argv.emplace_back("--embeddings");
  if (settings.default_pooling) launch.argv.insert(launch.argv.end(), {"--pooling", "last"});
  if (!user_gives(settings, {"-fit", "--fit"})) launch.argv.insert(launch.argv.end(), {"--fit", "off"});
  if (!user_gives(settings, {"--warmup", "--no-warmup"})) launch.argv.emplace_back("--no-warmup");
  launch.argv.insert(launch.argv.end(), {"--no-ui", "--no-slots"});  // /slots would show the prompts of others
  add_device(launch, start, settings);
  add_threads(launch, start, settings);
  THAW_RETURN_IF_ERROR(add_adapters(launch, start.model, paths));
  THAW_RETURN_IF_ERROR(add_user_args(launch, settings, paths));

  set_environment(launch, start.model, paths);
  if (!paths.lazy_map.empty() && paths.image == nullptr) {
    // The user's own are kept.
    std::string& preload = launch.env[kPreload];
    preload = preload.empty() ? paths.lazy_map : paths.lazy_map + ":" + preload;
  }
  return launch;
}

}  // namespace thaw::node
