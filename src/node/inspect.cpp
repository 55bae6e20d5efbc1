#include <algorithm>
#include <filesystem>

#include <fmt/format.h>

#include "node/agent.h"
#include "node/engine/engine.h"
#include "node/engine/llama_args.h"
#include "node/engine/llama_memory.h"
#include "node/shown_paths.h"
#include "node/weights/gguf.h"
#include "node/weights/integrity.h"
#include "node/weights/source_files.h"
#include "node/weights/weight_files.h"

namespace thaw::node {
namespace {

using base::Error;
using base::ErrorKind;

base::Status stamp_files(const std::vector<std::string>& files, ModelFacts& facts) {
  for (const std::string& file : files) {
    auto stamp = stamp_file(file);
    if (stamp.ok()) facts.files.push_back(*std::move(stamp));
    else if (stamp.error().kind != ErrorKind::invalid) return stamp.error();  // what is no file has no bytes to watch
  }
  return {};
}

/// Of the weights, as far as their format is known; a server of the user's own may have any.
base::Result<std::string> format_of(const spec::ModelSpec& spec) {
  const auto weights = open_weights(spec.source.path);
  if (weights.ok()) return std::string(weights->format == WeightFormat::gguf ? "gguf" : "safetensors");
  if (spec.engine == spec::EngineKind::command) return std::string("of its own");
  return weights.error();
}

/// For engines other than llama.cpp: whether their model can be shown to them, and what they are to be given.
base::Result<ModelFacts> inspect_for_others(const spec::ModelSpec& spec) {
  THAW_RETURN_IF_ERROR(check_arguments(spec));
  if (!spec.resources.device_memory_bytes) {
    return Error{ErrorKind::invalid, fmt::format("cannot deploy model {0}: spec.resources.deviceMemory is missing, and thaw cannot tell what engine {1} will "
                                                 "take; give what one replica may hold: weights, KV cache and some room to compute",
                                                 spec.name.str(), spec::to_string(spec.engine))};
  }
  THAW_ASSIGN_OR_RETURN(const std::vector<std::string> files, shown_files(spec.source.path));
  for (const std::string& file : files) THAW_RETURN_IF_ERROR(check_readable(file));
  ModelFacts facts;
  THAW_ASSIGN_OR_RETURN(facts.format, format_of(spec));
  for (const std::string& file : source_files(spec.source.path)) {
    std::error_code error;
    const auto size = std::filesystem::file_size(file, error);
    if (!error) facts.weights_bytes += size;
  }
  facts.estimated_device_bytes = *spec.resources.device_memory_bytes;
  THAW_RETURN_IF_ERROR(stamp_files(files, facts));
  return facts;
}

}  // namespace

base::Result<ModelFacts> inspect_model(const spec::ModelSpec& spec) {
  if (spec.is_adapter()) return inspect_adapter(spec);
  if (spec.engine != spec::EngineKind::llama_cpp) return inspect_for_others(spec);
  THAW_ASSIGN_OR_RETURN(const auto model, open_gguf_model(spec.source.path));
  std::vector<std::string> files = model.files();
  for (const std::string& file : files) THAW_RETURN_IF_ERROR(check_readable(file));
  const GgufHeader& header = model.head();
  const std::string architecture = header.text("general.architecture");
  if (architecture.empty() || header.tensors.empty()) {
    return Error{ErrorKind::invalid, fmt::format("cannot serve {}: it is a GGUF file without {}; name a whole model's file", spec.source.path,
                                                 architecture.empty() ? "an architecture" : "tensors")};
  }
  THAW_ASSIGN_OR_RETURN(const auto settings, read_llama_args(spec, header));
  for (const std::size_t position : settings.file_args) {
    const std::string& file = settings.user_args[position];
    THAW_RETURN_IF_ERROR(check_readable(file));
    if (std::find(files.begin(), files.end(), file) == files.end()) files.push_back(file);
  }

  const LlamaMemory memory = estimate_llama_memory(model, settings, spec.resources.device);
  ModelFacts facts;
  facts.format = fmt::format("gguf v{}", header.version);
  facts.weights_bytes = model.file_bytes();
  facts.kv_bytes_per_token = memory.kv_bytes_per_token;
  facts.trained_context_tokens = header.number(architecture + ".context_length").value_or(0);
  facts.estimated_device_bytes = memory.total_on(spec.resources.devices) + bytes_of_adapters(spec);
  facts.estimated_loading_bytes = memory.copied_bytes;
  THAW_RETURN_IF_ERROR(stamp_files(files, facts));
  return facts;
}

}  // namespace thaw::node
