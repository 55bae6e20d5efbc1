#include "node/engine/llama_args.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <string_view>

#include <fmt/format.h>

namespace thaw::node {
namespace {

using base::Error;
using base::ErrorKind;

constexpr std::uint64_t kMaxContextTokens = 1ULL << 31;  // the engine's own counter is 32 bits wide
constexpr std::uint64_t kMaxVocabularyTokens = 1ULL << 26;
constexpr std::uint64_t kContextGranule = 256;           // GGML_PAD in src/llama-context.cpp

struct Refusal {
  std::array<std::string_view, 4> flags;
  std::string_view variable;  ///< the environment variable that means the same
  std::string_view remedy;
};

constexpr std::array kRefusals{
    Refusal{{"-m", "--model"}, "LLAMA_ARG_MODEL", "name the file in spec.source.path"},
    Refusal{{"-mu", "--model-url"}, "LLAMA_ARG_MODEL_URL", "fetch the file and name it in spec.source.path"},
    Refusal{{"-hf", "-hfr", "--hf-repo"}, "LLAMA_ARG_HF_REPO", "fetch the file and name it in spec.source.path"},
    Refusal{{"-hff", "--hf-file"}, "LLAMA_ARG_HF_FILE", "fetch the file and name it in spec.source.path"},
    Refusal{{"-dr", "--docker-repo"}, "LLAMA_ARG_DOCKER_REPO", "fetch the file and name it in spec.source.path"},
    Refusal{{"--host"}, "LLAMA_ARG_HOST", "leave it out: thaw reaches the engine by a socket of its own"},
    Refusal{{"--port"}, "LLAMA_ARG_PORT", "leave it out: thaw reaches the engine by a socket of its own"},
    Refusal{{"--reuse-port"}, "LLAMA_ARG_REUSE_PORT", "leave it out: thaw reaches the engine by a socket of its own"},
    Refusal{{"--api-prefix"}, "LLAMA_ARG_API_PREFIX", "leave it out: clients talk to thaw, not to the engine"},
    Refusal{{"--api-key"}, "LLAMA_API_KEY", "leave it out: thaw checks the keys of clients"},
    Refusal{{"--api-key-file"}, "LLAMA_ARG_API_KEY_FILE", "leave it out: thaw checks the keys of clients"},
    Refusal{{"--ssl-key-file"}, "LLAMA_ARG_SSL_KEY_FILE", "leave it out: put TLS in front of thaw"},
    Refusal{{"--ssl-cert-file"}, "LLAMA_ARG_SSL_CERT_FILE", "leave it out: put TLS in front of thaw"},
    Refusal{{"-np", "--parallel"}, "LLAMA_ARG_N_PARALLEL", "set spec.scaling.targetConcurrency"},
    Refusal{{"-a", "--alias"}, "LLAMA_ARG_ALIAS", "set metadata.name"},
    Refusal{{"-dev", "--device"}, "LLAMA_ARG_DEVICE", "set spec.resources.device"},
    Refusal{{"--models-dir"}, "LLAMA_ARG_MODELS_DIR", "deploy each model to thaw"},
    Refusal{{"--models-preset"}, "LLAMA_ARG_MODELS_PRESET", "deploy each model to thaw"},
    Refusal{{"--models-max"}, "LLAMA_ARG_MODELS_MAX", "deploy each model to thaw"},
    Refusal{{"--models-autoload", "--no-models-autoload"}, "LLAMA_ARG_MODELS_AUTOLOAD", "deploy each model to thaw"},
    Refusal{{"--log-file"}, "LLAMA_ARG_LOG_FILE", "leave it out: `thaw logs` shows what the engine prints"},
    Refusal{{"--log-disable"}, "", "leave it out: `thaw logs` shows what the engine prints"},
    Refusal{{"--sleep-idle-seconds"}, "LLAMA_ARG_SLEEP_IDLE_SECONDS", "set spec.scaling.idleTimeout"},
};
// What is read from the arguments must not come by another way.
constexpr std::array<std::string_view, 7> kReadVariables{"LLAMA_ARG_CTX_SIZE",     "LLAMA_ARG_UBATCH",       "LLAMA_ARG_CACHE_TYPE_K",
                                                         "LLAMA_ARG_CACHE_TYPE_V", "LLAMA_ARG_EMBEDDINGS",   "LLAMA_ARG_POOLING",
                                                         "LLAMA_ARG_CACHE_RAM"};
// Arguments that name one file on the host, which a sandbox must be given.
constexpr std::array<std::string_view, 12> kFileFlags{
    "-mm", "--mmproj", "--lora", "--control-vector", "-md", "--model-draft", "--spec-draft-model", "--chat-template-file", "--grammar-file",
    "-jf", "--json-schema-file", "--lookup-cache-static"};

template <typename List>
bool contains(const List& list, std::string_view word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

Error contradiction(const spec::ModelSpec& spec, std::string_view what, std::string_view remedy) {
  return {ErrorKind::invalid, fmt::format("cannot deploy model {}: {} is thaw's to decide; {}", spec.name.str(), what, remedy)};
}

base::Status refuse_contradictions(const spec::ModelSpec& spec) {
  for (const Refusal& refusal : kRefusals) {
    for (const std::string& arg : spec.args) {
      if (!arg.empty() && contains(refusal.flags, arg)) return contradiction(spec, "argument " + arg, refusal.remedy);
    }
    if (!refusal.variable.empty() && spec.env.count(std::string(refusal.variable)) != 0) {
      return contradiction(spec, fmt::format("variable {}", refusal.variable), refusal.remedy);
    }
  }
  for (const std::string_view variable : kReadVariables) {
    if (spec.env.count(std::string(variable)) != 0) {
      return contradiction(spec, fmt::format("variable {}", variable), "use the argument of the same meaning in spec.args");
    }
  }
  return {};
}

/// Walks the arguments, taking out those that are read here.
class ArgReader {
 public:
  ArgReader(const spec::ModelSpec& spec, LlamaSettings& settings) : spec_(spec), settings_(settings) {}

  base::Status read() {
    while (next_ < spec_.args.size()) THAW_RETURN_IF_ERROR(read_one(spec_.args[next_++]));
    return {};
  }

  std::optional<std::uint64_t> context;  ///< as given; 0 means "what the model was trained for"
  std::string pooling;
  bool rerank = false;
  bool embeddings = false;

 private:
  base::Status read_one(const std::string& flag) {
    if (flag == "-c" || flag == "--ctx-size") {
      THAW_ASSIGN_OR_RETURN(context, number(flag, 0, kMaxContextTokens));
      return {};
    }
    if (flag == "-cram" || flag == "--cache-ram") {
      THAW_ASSIGN_OR_RETURN(const auto mib, number(flag, 0, 1ULL << 24));  // -1 ("no limit") is refused: nothing here is without
      settings_.prompt_cache_bytes = mib << 20;
      return {};
    }
    if (flag == "--embedding" || flag == "--embeddings") {
      embeddings = true;
      return {};
    }
    settings_.user_args.push_back(flag);
    if (flag == "--rerank" || flag == "--reranking") rerank = true;
    if (flag == "--swa-full") settings_.swa_full = true;
    if (flag == "-fa" || flag == "--flash-attn") {
      THAW_ASSIGN_OR_RETURN(const auto mode, kept_value(flag));
      settings_.flash_attention = mode != "off" && mode != "0" && mode != "false" && mode != "disabled";
    } else if (flag == "-ub" || flag == "--ubatch-size") {
      THAW_ASSIGN_OR_RETURN(settings_.ubatch_tokens, number(flag, 1, 1ULL << 20));
      settings_.user_args.push_back(std::to_string(settings_.ubatch_tokens));
    } else if (flag == "-ctk" || flag == "--cache-type-k") {
      THAW_ASSIGN_OR_RETURN(settings_.cache_type_k, kept_value(flag));
    } else if (flag == "-ctv" || flag == "--cache-type-v") {
      THAW_ASSIGN_OR_RETURN(settings_.cache_type_v, kept_value(flag));
    } else if (flag == "--pooling") {
      THAW_ASSIGN_OR_RETURN(pooling, kept_value(flag));
    } else if (contains(kFileFlags, flag)) {
      THAW_ASSIGN_OR_RETURN(const auto path, kept_value(flag));
      if (!path.starts_with("/")) {
        return Error{ErrorKind::invalid, fmt::format("cannot deploy model {}: {} {}: give an absolute path", spec_.name.str(), flag, path)};
      }
      settings_.file_args.push_back(settings_.user_args.size() - 1);
    }
    return {};
  }

  base::Result<std::string> value(const std::string& flag) {
    if (next_ == spec_.args.size()) {
      return Error{ErrorKind::invalid, fmt::format("cannot deploy model {}: argument {} lacks its value", spec_.name.str(), flag)};
    }
    return spec_.args[next_++];
  }

  base::Result<std::string> kept_value(const std::string& flag) {
    THAW_ASSIGN_OR_RETURN(auto text, value(flag));
    settings_.user_args.push_back(text);
    return text;
  }

  base::Result<std::uint64_t> number(const std::string& flag, std::uint64_t min, std::uint64_t max) {
    THAW_ASSIGN_OR_RETURN(const auto text, value(flag));
    std::uint64_t result = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), result);
    if (error != std::errc() || end != text.data() + text.size() || result < min || result > max) {
      return Error{ErrorKind::invalid, fmt::format("cannot deploy model {}: argument {} {}: a whole number from {} to {} is needed",
                                                   spec_.name.str(), flag, text, min, max)};
    }
    return result;
  }

  const spec::ModelSpec& spec_;
  LlamaSettings& settings_;
  std::size_t next_ = 0;
};

}  // namespace

base::Result<LlamaSettings> read_llama_args(const spec::ModelSpec& spec, const GgufHeader& model) {
  THAW_RETURN_IF_ERROR(refuse_contradictions(spec));
  LlamaSettings settings;
  settings.slots = std::max(spec.scaling.target_concurrency, 1U);
  ArgReader reader(spec, settings);
  THAW_RETURN_IF_ERROR(reader.read());

  const std::string architecture = model.text("general.architecture");
  const std::uint64_t trained = model.number(architecture + ".context_length").value_or(0);
  settings.context_tokens = reader.context.value_or(trained == 0 ? kDefaultContextTokens : std::min(trained, kDefaultContextTokens));
  if (settings.context_tokens == 0) settings.context_tokens = trained == 0 ? kDefaultContextTokens : trained;
  if (settings.context_tokens > kMaxContextTokens / settings.slots) {
    return Error{ErrorKind::invalid, fmt::format("cannot deploy model {}: a context of {} tokens for each of {} requests is more than the engine can "
                                                 "count; lower -c or spec.scaling.targetConcurrency", spec.name.str(), settings.context_tokens,
                                                 settings.slots)};
  }
  const bool has_pooling = model.number(architecture + ".pooling_type").has_value();
  const bool asked = reader.embeddings || has_pooling || !reader.pooling.empty();
  const bool cheap = embedding_logits_bytes(settings.ubatch_tokens, model) <= kMaxUnaskedLogitsBytes;
  settings.embeddings = (asked || cheap) && reader.pooling != "none" && !reader.rerank && spec.adapters.empty();
  settings.default_pooling = settings.embeddings && reader.pooling.empty() && !has_pooling;
  return settings;
}

std::vector<std::string> named_files(const spec::ModelSpec& spec) {
  std::vector<std::string> files;
  for (std::size_t i = 0; i + 1 < spec.args.size(); ++i) {
    if (contains(kFileFlags, spec.args[i])) files.push_back(spec.args[i + 1]);
  }
  return files;
}

std::uint64_t embedding_logits_bytes(std::uint64_t ubatch_tokens, const GgufHeader& model) {
  const std::string architecture = model.text("general.architecture");
  for (const std::string_view encoder : {"bert", "gemma-embedding", "t5encoder"}) {
    if (architecture.find(encoder) != std::string::npos) return 0;
  }
  return ubatch_tokens * vocabulary_tokens(model) * 2 * sizeof(float);
}

std::uint64_t vocabulary_tokens(const GgufHeader& model) {
  const GgufArray* tokens = model.array("tokenizer.ggml.tokens");
  if (tokens != nullptr) return tokens->count;  // bounded by the file's size
  return std::min(model.number(model.text("general.architecture") + ".vocab_size").value_or(0), kMaxVocabularyTokens);
}

std::uint64_t allocated_context_tokens(const LlamaSettings& settings) {
  return (settings.context_tokens + kContextGranule - 1) / kContextGranule * kContextGranule * settings.slots;
}

}  // namespace thaw::node
