#include "node/engine/lora.h"

#include <algorithm>
#include <filesystem>

#include <fmt/format.h>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>

#include "node/engine/http_client.h"
#include "node/engine/launch_parts.h"
#include "node/sandbox/files.h"

namespace thaw::node {
namespace {

namespace json = boost::json;
using base::Error;
using base::ErrorKind;

constexpr std::size_t kMaxConfigBytes = 1U << 20;
constexpr std::uint32_t kMaxRank = 512;          // vLLM's greatest
constexpr std::size_t kMaxAdaptersOfBatch = 8;   // each has its place in device memory from the start

const char* prefix_of(LoraApi api) { return api == LoraApi::vllm ? "/v1" : ""; }

/// What an engine says of an error, in its several shapes, on one line.
std::string words_of(const EngineAnswer& answer) {
  constexpr std::size_t kMaxWords = 400;
  json::error_code error;
  const json::value value = json::parse(answer.body, error);
  std::string words = answer.body;
  if (!error && value.is_object()) {
    const json::object* at = &value.get_object();
    if (const auto* inner = at->if_contains("error"); inner != nullptr && inner->is_object()) at = &inner->get_object();
    for (const char* key : {"message", "error_message", "detail"})
      if (const auto* text = at->if_contains(key); text != nullptr && text->is_string()) {
        words = std::string(text->get_string());
        break;
      }
  }
  std::replace_if(words.begin(), words.end(), [](char c) { return static_cast<unsigned char>(c) < ' '; }, ' ');
  return words.substr(0, kMaxWords);
}

bool says_loaded_already(const EngineAnswer& answer) { return answer.status != 200 && answer.body.find("already") != std::string::npos; }

base::Result<EngineAnswer> ask(const std::string& address, LoraApi api, const char* verb, const json::object& body, base::TimePoint deadline,
                               const std::stop_token& stop) {
  EngineQuestion question;
  question.method = "POST";
  question.target = fmt::format("{}/{}_lora_adapter", prefix_of(api), verb);
  question.body = json::serialize(body);
  return ask_engine(address, question, deadline, stop);
}

/// vLLM takes these alone.
std::uint32_t rounded_rank(std::uint32_t rank) {
  for (const std::uint32_t possible : {8U, 16U, 32U, 64U, 128U, 256U, 320U, 512U})
    if (rank <= possible) return possible;
  return kMaxRank;
}

/// The greatest of its adapters'; where one cannot be read, that one will fail to load and say why.
std::uint32_t greatest_rank(const spec::ModelSpec& model) {
  std::uint32_t greatest = 0;
  for (const spec::Adapter& adapter : model.adapters)
    if (const auto rank = adapter_rank(adapter.path); rank.ok()) greatest = std::max(greatest, *rank);
  return rounded_rank(greatest);
}

void add_flag(EngineLaunch& launch, const spec::ModelSpec& model, const char* flag, std::string value) {
  if (gives_flag(model.args, flag)) return;
  launch.argv.emplace_back(flag);
  if (!value.empty()) launch.argv.push_back(std::move(value));
}

}  // namespace

LoraApi lora_api_of(const spec::ModelSpec& model) {
  switch (model.engine) {
    case spec::EngineKind::vllm: return LoraApi::vllm;
    case spec::EngineKind::sglang: return LoraApi::sglang;
    case spec::EngineKind::llama_cpp:
    case spec::EngineKind::command: break;
  }
  return LoraApi::none;
}

base::Status load_adapter(const std::string& address, LoraApi api, const std::string& name, const std::string& path, base::TimePoint deadline,
                          const std::stop_token& stop) {
  const json::object body{{"lora_name", name}, {"lora_path", path}};
  THAW_ASSIGN_OR_RETURN(EngineAnswer answer, ask(address, api, "load", body, deadline, stop));
  if (says_loaded_already(answer)) {
    // It slept since then, or another directory had this name: what it has may be anything.
    THAW_RETURN_IF_ERROR(unload_adapter(address, api, name, deadline, stop));
    THAW_ASSIGN_OR_RETURN(answer, ask(address, api, "load", body, deadline, stop));
  }
  if (answer.status == 200) return {};
  return Error{ErrorKind::internal, fmt::format("the engine does not load it ({}): {}", answer.status, words_of(answer))};
}

base::Status unload_adapter(const std::string& address, LoraApi api, const std::string& name, base::TimePoint deadline, const std::stop_token& stop) {
  THAW_ASSIGN_OR_RETURN(const EngineAnswer answer, ask(address, api, "unload", {{"lora_name", name}}, deadline, stop));
  constexpr int kBadRequest = 400, kNotFound = 404;
  if (answer.status == 200 || answer.status == kBadRequest || answer.status == kNotFound) return {};
  return Error{ErrorKind::internal, fmt::format("the engine does not unload it ({}): {}", answer.status, words_of(answer))};
}

std::string seen_adapter(const LaunchPaths& paths, const spec::Adapter& adapter) { return seen_in(paths.model_dir, adapter.path); }

base::Status add_adapters(EngineLaunch& launch, const spec::ModelSpec& model, const LaunchPaths& paths) {
  if (model.adapters.empty()) return {};
  for (const spec::Adapter& adapter : model.adapters) {
    std::error_code error;
    if (!std::filesystem::exists(adapter.path, error))
      return Error{ErrorKind::not_found, fmt::format("its adapter {0} is not there: {1} is gone; put it back, or remove the adapter (thaw rm {0})", adapter.name,
                                                     adapter.path)};
    THAW_RETURN_IF_ERROR(add_model_file(launch, adapter.path));
  }
  switch (model.engine) {
    case spec::EngineKind::llama_cpp:
      for (const spec::Adapter& adapter : model.adapters)
        launch.argv.insert(launch.argv.end(), {"--lora-scaled", seen_adapter(paths, adapter) + ":0"});
      launch.argv.emplace_back("--no-cache-prompt");
      break;
    case spec::EngineKind::vllm:
      add_flag(launch, model, "--enable-lora", {});
      add_flag(launch, model, "--max-loras", std::to_string(std::min(model.adapters.size(), kMaxAdaptersOfBatch)));
      add_flag(launch, model, "--max-cpu-loras", std::to_string(model.adapters.size()));
      add_flag(launch, model, "--max-lora-rank", std::to_string(greatest_rank(model)));
      launch.env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "True";
      break;
    case spec::EngineKind::sglang:
      add_flag(launch, model, "--enable-lora", {});
      add_flag(launch, model, "--max-loras-per-batch", std::to_string(std::min(model.adapters.size(), kMaxAdaptersOfBatch)));
      add_flag(launch, model, "--max-lora-rank", std::to_string(greatest_rank(model)));
      add_flag(launch, model, "--lora-target-modules", "all");
      break;
    case spec::EngineKind::command: break;
  }
  return {};
}

base::Result<std::uint32_t> adapter_rank(const std::string& directory) {
  const std::string path = directory + "/adapter_config.json";
  const auto text = read_small_file(path);
  if (!text.ok())
    return Error{ErrorKind::invalid,
                 fmt::format("{} is no adapter: it has no adapter_config.json; name a directory as PEFT writes it (save_pretrained)", directory)};
  json::error_code error;
  const json::value value = json::parse(*text, error);
  if (text->size() > kMaxConfigBytes || error || !value.is_object()) return Error{ErrorKind::invalid, path + " is no JSON object"};
  const json::object& config = value.get_object();
  const auto* kind = config.if_contains("peft_type");
  if (kind != nullptr && !(kind->is_string() && kind->get_string() == "LORA"))
    return Error{ErrorKind::invalid, fmt::format("{}: peft_type is {}, and only LORA is served", path, json::serialize(*kind))};
  const auto* rank = config.if_contains("r");
  if (rank == nullptr || !rank->is_int64() || rank->get_int64() < 1 || rank->get_int64() > kMaxRank)
    return Error{ErrorKind::invalid, fmt::format("{}: \"r\" must be a whole number from 1 to {}", path, kMaxRank)};
  return static_cast<std::uint32_t>(rank->get_int64());
}

}  // namespace thaw::node
