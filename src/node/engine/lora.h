#pragma once

#include <cstdint>
#include <stop_token>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "node/engine/engine.h"

/// The problem: several models are one model's weights and a small adapter (LoRA) each. Engines serve all of them from one process, and each wants to be told
/// of adapters in its own way.
///
///     llama.cpp   at its start; a request says by "lora": [{"id", "scale"}] which of them counts. --lora-scaled FILE:0 for each: with --lora, also with
///                 --lora-init-without-apply, those that say nothing get all of them (seen with v0.5.0). Worse, one that says nothing goes on with what an
///                 adapter left in its slot's cache. So the gateway says it in every request that can (chat, completions, responses: by zero for the model
///                 itself) and asks for the cache there, which is off for the others (--no-cache-prompt: /v1/messages drops "lora"). Embeddings use the cache
///                 whatever is asked: there are none beside adapters (llama_args.cpp).
///     vLLM        POST /v1/load_lora_adapter, /v1/unload_lora_adapter {"lora_name", "lora_path"}, which are there with
///                 VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment; a request says it by "model"
///                 (https://docs.vllm.ai/en/latest/features/lora.html)
///     SGLang      POST /load_lora_adapter, /unload_lora_adapter, the same bodies; a request says it by "lora_path"
///                 (https://docs.sglang.ai/advanced_features/lora.html)
namespace thaw::node {

/// How an engine is told of adapters while it runs.
enum class LoraApi { none, vllm, sglang };
LoraApi lora_api_of(const spec::ModelSpec& model);

/// Loads one; one of this name that it has already is unloaded first. Blocking until the deadline at most. Fails with what the engine says.
base::Status load_adapter(const std::string& address, LoraApi api, const std::string& name, const std::string& path, base::TimePoint deadline,
                          const std::stop_token& stop = {});
/// An engine that has no such adapter is content.
base::Status unload_adapter(const std::string& address, LoraApi api, const std::string& name, base::TimePoint deadline, const std::stop_token& stop = {});

/// Where the engine sees an adapter's file or directory.
std::string seen_adapter(const LaunchPaths& paths, const spec::Adapter& adapter);

/// What the start of an engine of the model's kind has for its adapters, if it has any: files that are shown, arguments, environment.
base::Status add_adapters(EngineLaunch& launch, const spec::ModelSpec& model, const LaunchPaths& paths);

/// Of an adapter as PEFT writes it, by its adapter_config.json ("r"). Fails when there is none, or it is not what it should be.
base::Result<std::uint32_t> adapter_rank(const std::string& directory);

}  // namespace thaw::node
