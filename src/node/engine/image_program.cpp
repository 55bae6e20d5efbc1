#include "node/engine/image_program.h"

#include <algorithm>
#include <filesystem>

#include <fmt/format.h>

#include "base/tenancy.h"

namespace thaw::node {
namespace {

constexpr const char* kUsualPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";  // docker's, for images that say nothing

std::string file_name(const std::string& path) {
  return std::filesystem::path(path).filename();
}

/// The engine's own words of an image's entrypoint, without those that its adapter adds; empty when it is something else.
std::vector<std::string> own_entrypoint(spec::EngineKind engine, std::vector<std::string> entrypoint) {
  if (entrypoint.empty()) return {};
  switch (engine) {
    case spec::EngineKind::llama_cpp:
      return file_name(entrypoint.back()) == "llama-server" ? entrypoint : std::vector<std::string>();
    case spec::EngineKind::vllm:
      if (entrypoint.back() == "serve") entrypoint.pop_back();
      return !entrypoint.empty() && file_name(entrypoint.back()) == "vllm" ? entrypoint : std::vector<std::string>();
    case spec::EngineKind::sglang:
      return entrypoint.back() == "sglang.launch_server" ? entrypoint : std::vector<std::string>();
    case spec::EngineKind::command:
      return entrypoint;
  }
  return entrypoint;
}

std::vector<std::string> usual_program(spec::EngineKind engine) {
  switch (engine) {
    case spec::EngineKind::llama_cpp:
      return {"llama-server"};
    case spec::EngineKind::vllm:
      return {"vllm"};
    case spec::EngineKind::sglang:
      return {"python3"};  // its adapter adds the module to an interpreter
    case spec::EngineKind::command:
      return {};
  }
  return {};
}

}  // namespace

base::Result<Program> place_engine(const spec::ModelSpec& spec, const std::string& engine_binary, const LaunchPaths& paths) {
  if (paths.image == nullptr) return place_program(engine_binary, paths.engine_dir);
  Program program;
  if (spec.engine == spec::EngineKind::command && !spec.command.empty())
    program.argv = {spec.command.front()};
  else if (!spec.engine_path.empty())
    program.argv = {spec.engine_path};
  else
    program.argv = own_entrypoint(spec.engine, paths.image->entrypoint);
  if (program.argv.empty()) program.argv = usual_program(spec.engine);
  if (!program.argv.empty()) return program;
  return base::Error{base::ErrorKind::invalid,
                     fmt::format("cannot start {}: its image has no entrypoint; name the program in spec.command", base::public_name(spec.name))};
}

void set_image_environment(EngineLaunch& launch, const OciConfig& image) {
  launch.env["PATH"] = kUsualPath;
  for (const auto& [name, value] : image.env) {
    if (name == "HOME") continue;
    if (name == "PATH" || name == "LANG")
      launch.env[name] = value;
    else
      launch.env.emplace(name, value);
  }
}

}  // namespace thaw::node
