#include "lora.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <fstream>

#include "answers.h"
#include "json_scan.h"

namespace thaw::fake_engine {

std::optional<Sleeper::Reply> Adapters::handle(const Request& request) {
  if (!options_.lora || request.method != "POST") return std::nullopt;
  const std::string prefix = options_.kind == Kind::vllm ? "/v1" : "";
  if (request.target == prefix + "/load_lora_adapter") return load(request);
  if (request.target == prefix + "/unload_lora_adapter") return unload(request);
  return std::nullopt;
}

bool Adapters::has(std::string_view name) const {
  return std::find(names_.begin(), names_.end(), name) != names_.end();
}

std::string Adapters::names() const {
  std::string all;
  for (const std::string& name : names_) all += (all.empty() ? "" : ",") + name;
  return all;
}

Sleeper::Reply Adapters::load(const Request& request) {
  ++loads_;
  const std::string name(json_string(json_member(request.body, "lora_name")));
  const std::string path(json_string(json_member(request.body, "lora_path")));
  if (has(name)) return {400, error_body(400, "The lora adapter '" + name + "' has already been loaded.")};
  if (!std::ifstream(path + "/adapter_config.json")) return {404, error_body(404, "No adapter found for " + path)};
  std::string trouble;
  std::ifstream(path + "/trouble") >> trouble;
  if (trouble == "error") return {400, error_body(400, "LoRA rank 512 is greater than max_lora_rank 16.")};
  if (trouble == "crash") std::abort();
  if (trouble == "hang") return {200, {}, 0, true};
  std::int64_t delay_ms = 0;
  std::from_chars(trouble.data(), trouble.data() + trouble.size(), delay_ms);
  names_.push_back(name);
  return {200, "Success: LoRA adapter '" + name + "' added successfully.", delay_ms};
}

Sleeper::Reply Adapters::unload(const Request& request) {
  ++unloads_;
  const std::string name(json_string(json_member(request.body, "lora_name")));
  if (!has(name)) return {404, error_body(404, "The lora adapter '" + name + "' cannot be found.")};
  std::erase(names_, name);
  return {200, "Success: LoRA adapter '" + name + "' removed successfully."};
}

}  // namespace thaw::fake_engine
