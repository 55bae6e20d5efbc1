
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <sstream>
#include <vector>

#include <fmt/format.h>

#include "node/engine/engine.h"
#include "node/user_directory.h"

namespace thaw::node {
namespace {

namespace fs = std::filesystem;

constexpr const char* kBinary = "llama-server";
constexpr const char* kSandboxPath = "/usr/bin:/bin";  // an engine's PATH (launch_parts.cpp)

bool executable(const std::string& path) {
  std::error_code error;
  return fs::is_regular_file(path, error) && ::access(path.c_str(), X_OK) == 0;
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nothing in thaw changes the environment
  return value != nullptr ? value : "";
}

/// As scripts/install-engine chooses it.
std::string cache_directory() {
  if (const std::string own = environment("THAW_CACHE_DIR"); !own.empty()) return own + "/engine";
  if (const std::string xdg = environment("XDG_CACHE_HOME"); !xdg.empty()) return xdg + "/thaw/engine";
  if (const std::string home = environment("HOME"); !home.empty()) return home + "/.cache/thaw/engine";
  return user_directory() + "/.cache/thaw/engine";
}

/// "3.22.1-cuda" -> {3, 22, 1}: so that 3.9 sorts before 3.22.
std::vector<int> version_numbers(const std::string& directory) {
  std::vector<int> numbers;
  int number = -1;
  for (const char c : directory + ".") {
    if (c >= '0' && c <= '9') {
      number = std::min(number < 0 ? c - '0' : number * 10 + (c - '0'), 1'000'000);
    } else if (number >= 0) {
      numbers.push_back(number);
      number = -1;
    }
  }
  return numbers;
}

/// The newest engine in the cache; one built for CUDA where there is an NVIDIA device, else one for the CPU where there is one.
std::optional<std::string> find_in_cache(const std::string& cache) {
  const bool want_cuda = ::access("/dev/nvidiactl", F_OK) == 0;
  std::optional<std::string> best;
  std::pair<bool, std::vector<int>> best_rank;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(cache, error)) {
    const std::string name = entry.path().filename().string();
    const std::string binary = (entry.path() / kBinary).string();
    if (name.starts_with(".") || !executable(binary)) continue;
    std::pair rank{name.ends_with("-cuda") == want_cuda, version_numbers(name)};
    if (!best || rank > best_rank) {
      best = binary;
      best_rank = std::move(rank);
    }
  }
  return best;
}

std::optional<std::string> find_in_path(const std::string& search_path, const std::string& name) {
  std::istringstream path(search_path);
  for (std::string directory; std::getline(path, directory, ':');) {
    if (!directory.starts_with("/")) continue;  // what is found must not depend on where thaw was started
    const std::string binary = directory + "/" + name;
    if (executable(binary)) return binary;
  }
  return std::nullopt;
}

/// The first word of a command: a path, or a name as the sandbox would look it up.
base::Result<std::string> find_program(const spec::ModelSpec& model) {
  const std::string& program = model.command.empty() ? std::string() : model.command.front();
  if (program.starts_with("/")) {
    if (executable(program)) return program;
    return base::Error{base::ErrorKind::not_found, fmt::format("cannot use {} of model {}: it is no executable file; correct the first word of "
                                                               "spec.command", program, model.name.str())};
  }
  if (auto found = find_in_path(kSandboxPath, program); found && !program.empty()) return *std::move(found);
  return base::Error{base::ErrorKind::not_found, fmt::format("cannot find {} of model {}: it is not in {}; give its absolute path in spec.command", program,
                                                             model.name.str(), kSandboxPath)};
}

/// vLLM and SGLang: programs of Python environments, which have no place of their own.
base::Result<std::string> find_in_environments(spec::EngineKind kind) {
  const std::string name = spec::to_string(kind);
  const bool vllm = kind == spec::EngineKind::vllm;
  const std::string usual = "/opt/" + name + (vllm ? "/bin/vllm" : "/bin/python3");
  if (executable(usual)) return usual;
  if (auto found = find_in_path(environment("PATH"), name)) return *std::move(found);
  return base::Error{base::ErrorKind::not_found,
                     fmt::format("cannot find engine {0}: looked for {1}, and {0} in PATH; set engines.{0} in the server's configuration, or the model's "
                                 "enginePath, to {2} in its virtual environment (docs/engines.md)", name, usual, vllm ? "bin/vllm" : "bin/python3")};
}

}  // namespace

base::Result<std::string> find_engine(spec::EngineKind kind, const spec::ModelSpec& model,
                                      const std::map<std::string, std::string>& configured) {
  if (kind == spec::EngineKind::command) return find_program(model);
  if (!model.engine_path.empty()) {
    if (executable(model.engine_path)) return model.engine_path;
    return base::Error{base::ErrorKind::not_found, fmt::format("cannot use engine {} of model {}: it is no executable file; correct the model's "
                                                               "enginePath or leave it out", model.engine_path, model.name.str())};
  }
  if (const auto found = configured.find(spec::to_string(kind)); found != configured.end()) {
    if (executable(found->second)) return found->second;
    return base::Error{base::ErrorKind::not_found, fmt::format("cannot use engine {}: it is no executable file; correct engines.{} in the "
                                                               "server's configuration", found->second, found->first)};
  }
  if (kind != spec::EngineKind::llama_cpp) return find_in_environments(kind);
  const std::string cache = cache_directory();
  if (auto found = find_in_cache(cache)) return *std::move(found);
  for (const char* directory : {"/usr/lib/thaw", "/usr/local/lib/thaw"}) {
    std::string binary = fmt::format("{}/{}", directory, kBinary);
    if (executable(binary)) return binary;
  }
  if (auto found = find_in_path(environment("PATH"), kBinary)) return *std::move(found);
  return base::Error{base::ErrorKind::not_found,
                     fmt::format("cannot find engine {0} ({1}): looked in {2}/*/, /usr/lib/thaw/, /usr/local/lib/thaw/ and PATH; run "
                                 "scripts/install-engine, or set engines.{0} in the server's configuration", spec::to_string(kind), kBinary,
                                 cache)};
}

}  // namespace thaw::node
