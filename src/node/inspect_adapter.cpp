#include <algorithm>
#include <array>
#include <filesystem>
#include <map>

#include <fmt/format.h>

#include "base/revision.h"
#include "node/agent.h"
#include "node/engine/launch_parts.h"
#include "node/engine/lora.h"
#include "node/shown_paths.h"
#include "node/weights/gguf.h"
#include "node/weights/integrity.h"

/// What an adapter's files are looked at for, so that a wrong one is refused when it is deployed, not by a base that does not start any more.
namespace thaw::node {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ErrorKind;

constexpr std::string_view kA = ".lora_a", kB = ".lora_b";

Error invalid(std::string text) { return {ErrorKind::invalid, std::move(text)}; }

/// Format: llama.cpp's convert_lora_to_gguf.py and src/llama-adapter.cpp.
base::Status check_gguf_adapter(const GgufHeader& header) {
  const std::string type = header.text("general.type");
  if (type != "adapter")
    return invalid(fmt::format("{} is no adapter: its general.type is \"{}\"{}", header.path, type,
                               type.empty() || type == "model" ? "; a whole model is deployed without spec.base" : ""));
  if (const std::string kind = header.text("adapter.type"); kind != "lora")
    return invalid(fmt::format("{} is an adapter of type \"{}\"; only lora is served", header.path, kind));
  if (!header.real("adapter.lora.alpha")) return invalid(header.path + " lacks adapter.lora.alpha; convert it anew with convert_lora_to_gguf.py");
  if (header.tensors.empty()) return invalid(header.path + " holds no tensors");
  return {};
}

base::Status stamp_into(const std::string& path, ModelFacts& facts) {
  THAW_RETURN_IF_ERROR(check_readable(path));
  THAW_ASSIGN_OR_RETURN(wire::FileStamp stamp, stamp_file(path));
  facts.weights_bytes += stamp.bytes;
  facts.files.push_back(std::move(stamp));
  return {};
}

/// A directory that PEFT wrote; where its weights lie, the engine knows.
base::Result<ModelFacts> inspect_peft(const std::string& directory) {
  std::error_code error;
  if (!fs::is_directory(directory, error))
    return invalid(fmt::format("{} is no directory; engines other than llama.cpp take adapters as PEFT writes them: adapter_config.json and "
                               "adapter_model.safetensors in a directory", directory));
  THAW_RETURN_IF_ERROR(adapter_rank(directory));
  THAW_RETURN_IF_ERROR(check_readable(directory));
  ModelFacts facts;
  facts.format = "peft lora";
  THAW_RETURN_IF_ERROR(stamp_into(directory + "/adapter_config.json", facts));
  facts.weights_bytes = 0;  // that was none of them
  for (const char* name : {"adapter_model.safetensors", "adapter_model.bin"}) {
    const std::string path = directory + "/" + name;
    if (!fs::exists(path, error)) continue;
    THAW_RETURN_IF_ERROR(stamp_into(path, facts));
    return facts;
  }
  return invalid(directory + " holds no adapter_model.safetensors");
}

/// llama.cpp refuses to start with what does not fit.
base::Status check_tensors(const GgufHeader& adapter, const GgufModel& base) {
  std::map<std::string_view, const GgufTensor*> weights, own;
  for (const GgufHeader& part : base.parts)
    for (const GgufTensor& tensor : part.tensors) weights.emplace(tensor.name, &tensor);
  for (const GgufTensor& tensor : adapter.tensors) own.emplace(tensor.name, &tensor);
  for (const GgufTensor& tensor : adapter.tensors) {
    const std::string_view name = tensor.name;
    if (!name.ends_with(kA) && !name.ends_with(kB)) return invalid(fmt::format("{}: tensor {} is neither a lora_a nor a lora_b", adapter.path, name));
    const std::string stem(name.substr(0, name.size() - kA.size()));
    const auto a = own.find(stem + std::string(kA)), b = own.find(stem + std::string(kB)), whole = weights.find(stem);
    if (a == own.end() || b == own.end()) return invalid(fmt::format("{}: tensor {} lacks its other half", adapter.path, name));
    if (whole == weights.end()) return invalid(fmt::format("{}: the base has no tensor {}; it is of another model", adapter.path, stem));
    if (stem == "token_embd.weight") continue;  // looked up, not multiplied with: the other way round
    const auto& left = a->second->shape;
    const auto& right = b->second->shape;
    const auto& of = whole->second->shape;
    if (left[0] != of[0] || right[1] != of[1] || left[1] != right[0])
      return invalid(fmt::format("{}: {} is for a tensor of {} x {}, and the base's has {} x {}; it is of another model", adapter.path, stem,
                                 left[0], right[1], of[0], of[1]));
  }
  return {};
}

base::Status fits_llama_cpp(const spec::ModelSpec& base, const spec::Adapter& adapter) {
  constexpr std::array<std::string_view, 9> kAgainst{"--lora", "--lora-scaled", "--lora-init-without-apply", "--cache-prompt", "--embedding",
                                                     "--embeddings", "--rerank", "--reranking", "--control-vector"};
  for (const std::string& arg : base.args)
    if (std::find(kAgainst.begin(), kAgainst.end(), arg) != kAgainst.end())
      return invalid(fmt::format("argument {} of the base does not go with adapters that are models; leave it out of its spec.args{}", arg,
                                 arg.starts_with("--lora") ? ", and deploy what it names as an adapter" : ""));
  if (base.env.contains("LLAMA_ARG_CACHE_PROMPT"))
    return invalid("variable LLAMA_ARG_CACHE_PROMPT of the base does not go with adapters; leave it out of its spec.env");
  // The engine's own separators.
  if (const std::string name = fs::path(adapter.path).filename(); name.find_first_of(",:") != std::string::npos)
    return invalid(fmt::format("{}: llama.cpp takes no adapter with \",\" or \":\" in its name; rename the file", adapter.path));
  THAW_ASSIGN_OR_RETURN(const GgufHeader header, read_gguf_header(adapter.path));
  THAW_RETURN_IF_ERROR(check_gguf_adapter(header));
  THAW_ASSIGN_OR_RETURN(const GgufModel model, open_gguf_model(base.source.path));
  const std::string own = header.text("general.architecture"), its = model.head().text("general.architecture");
  if (own != its) return invalid(fmt::format("{} is an adapter for models of architecture \"{}\", and the base is \"{}\"", adapter.path, own, its));
  return check_tensors(header, model);
}

/// A sandbox shows all files of a replica in one directory.
base::Status check_names(const spec::ModelSpec& base, const spec::Adapter& adapter) {
  EngineLaunch launch;
  spec::ModelSpec alone = base;
  alone.adapters.clear();
  for (const std::string& file : weight_files(alone)) THAW_RETURN_IF_ERROR(add_model_file(launch, file));
  for (const spec::Adapter& other : base.adapters)
    if (other.name != adapter.name) THAW_RETURN_IF_ERROR(add_model_file(launch, other.path));
  return add_model_file(launch, adapter.path);
}

}  // namespace

base::Result<ModelFacts> inspect_adapter(const spec::ModelSpec& spec) {
  if (spec.engine != spec::EngineKind::llama_cpp) return inspect_peft(spec.source.path);
  THAW_ASSIGN_OR_RETURN(const GgufHeader header, read_gguf_header(spec.source.path));
  THAW_RETURN_IF_ERROR(check_gguf_adapter(header));
  ModelFacts facts;
  facts.format = fmt::format("gguf v{} lora", header.version);
  THAW_RETURN_IF_ERROR(stamp_into(spec.source.path, facts));
  return facts;
}

base::Status adapter_fits(const spec::ModelSpec& base, const spec::Adapter& adapter) {
  base::Status fits = check_names(base, adapter);
  if (fits.ok() && base.engine == spec::EngineKind::llama_cpp) fits = fits_llama_cpp(base, adapter);
  if (fits.ok() && lora_api_of(base) != LoraApi::none)
    if (const auto files = inspect_peft(adapter.path); !files.ok()) fits = files.error();
  if (base.engine == spec::EngineKind::command)
    fits = invalid("engine \"command\" has no adapters that thaw knows of; use llama.cpp, vllm or sglang");
  if (fits.ok()) return {};
  return fits.error().within(fmt::format("adapter \"{}\" does not fit model \"{}\"", adapter.name, base::public_model(base.name)));
}

std::uint64_t bytes_of_adapters(const spec::ModelSpec& base) {
  std::uint64_t bytes = 0;
  for (const spec::Adapter& adapter : base.adapters) bytes += adapter.bytes;
  return bytes;
}

}  // namespace thaw::node
