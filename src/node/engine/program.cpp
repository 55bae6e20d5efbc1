#include "node/engine/program.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <optional>

#include <fmt/format.h>

#include "node/sandbox/host_view.h"

namespace thaw::node {
namespace {

namespace fs = std::filesystem;

bool starts_with_directory(const std::string& path, const std::string& directory) {
  return path.starts_with(directory + "/");
}

/// The Python environment that a program in its bin/ belongs to.
std::optional<fs::path> environment_of(const fs::path& program) {
  std::error_code error;
  const fs::path prefix = program.parent_path().parent_path();
  if (program.parent_path().filename() != "bin" || prefix == prefix.root_path()) return std::nullopt;
  if (fs::exists(prefix / "pyvenv.cfg", error) || fs::is_directory(prefix / "conda-meta", error)) return prefix;
  return std::nullopt;
}

bool is_script(const fs::path& program) {
  std::array<char, 2> start{};
  std::ifstream(program, std::ios::binary).read(start.data(), start.size());
  return start[0] == '#' && start[1] == '!';
}

/// The environment's interpreter, by its name there.
base::Result<fs::path> interpreter_of(const fs::path& prefix, const std::string& engine_dir) {
  for (const char* name : {"python3", "python"}) {
    std::error_code error;
    const fs::path python = prefix / "bin" / name;
    const std::string real = fs::canonical(python, error).string();
    if (error) continue;
    const std::string real_prefix = fs::canonical(prefix, error).string();
    if (engine_dir.empty() || starts_with_directory(real, real_prefix) || seen_everywhere(real)) return python;
    return base::Error{
        base::ErrorKind::invalid,
        fmt::format(
            "cannot use the Python environment {}: its interpreter is {}, which a sandbox does not see; make it with "
            "/usr/bin/python3 -m venv, or with conda, which has an interpreter of its own inside",
            prefix.string(), real)};
  }
  return base::Error{
      base::ErrorKind::not_found,
      fmt::format("cannot use the Python environment {}: there is no bin/python3 that works in it", prefix.string())};
}

base::Result<Program> in_environment(const fs::path& program, const fs::path& prefix, const std::string& engine_dir) {
  const fs::path inside = engine_dir.empty() ? prefix : fs::path(engine_dir);
  Program placed;
  placed.mount_dir = prefix;
  placed.bin_dir = inside / "bin";
  THAW_ASSIGN_OR_RETURN(const fs::path python, interpreter_of(prefix, engine_dir));
  placed.python = inside / "bin" / python.filename();
  if (is_script(program)) placed.argv.push_back(placed.python);
  placed.argv.push_back(inside / "bin" / program.filename());
  return placed;
}

}  // namespace

bool seen_everywhere(const std::string& path) {
  const std::vector<HostPath> view = host_view();
  return std::any_of(view.begin(), view.end(), [&](const HostPath& shown) {
    return shown.kind == HostPath::Kind::directory && starts_with_directory(path, shown.path);
  });
}

base::Result<Program> place_program(const std::string& path, const std::string& engine_dir) {
  // Before links are followed: an environment's python3 is one that leads out of it.
  if (const auto prefix = environment_of(path)) return in_environment(path, *prefix, engine_dir);
  std::error_code error;
  const fs::path real = fs::canonical(path, error);
  if (error) return base::errno_error("cannot find the engine's program " + path, error.value());
  if (const auto prefix = environment_of(real)) return in_environment(real, *prefix, engine_dir);
  Program placed;
  if (engine_dir.empty() || seen_everywhere(real)) {
    placed.argv = {real};
    return placed;
  }
  placed.mount_dir = real.parent_path();
  placed.argv = {engine_dir + "/" + real.filename().string()};
  return placed;
}

}  // namespace thaw::node
