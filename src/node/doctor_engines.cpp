#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <sstream>

#include <fmt/format.h>

#include "node/doctor_parts.h"
#include "node/engine/engine.h"
#include "node/engine/program.h"
#include "node/host_access.h"
#include "node/sandbox/bundle.h"
#include "node/sandbox/cgroup_host.h"
#include "node/sandbox/files.h"
#include "node/sandbox/pipes.h"
#include "node/sandbox/process.h"
#include "node/sandbox/runc.h"
#include "node/sandbox/runsc.h"
#include "node/tiers/image_driver.h"
#include "node/sandbox/search_path.h"

namespace thaw::node {
namespace {

constexpr base::Duration kVersionTimeout = base::Seconds(2);
constexpr base::Duration kTrialTimeout = base::Seconds(20);

/// What a program says of its version: its output's first line with a digit.
base::Result<std::string> version_of(const std::string& program) {
  THAW_ASSIGN_OR_RETURN(auto output, make_output_pipe());
  const auto exit = run({.argv = {program, "--version"}, .env = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/tmp"}, .output_fd = output.theirs.get()},
                        kVersionTimeout);
  if (!exit.ok()) return exit.error();
  const std::string text = read_available(output.ours.get());
  if (exit->signalled || exit->code != 0) {
    return base::Error{base::ErrorKind::unavailable, fmt::format("{} --version ended with {}: {}", program, exit->text(), text.substr(0, 300))};
  }
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const bool log_line = line.size() > 1 && line[1] == '.';  // llama-server's "0.00.001.8 I …"
    if (!log_line && line.find_first_of("0123456789") != std::string::npos) return line;
  }
  return std::string("version unknown");
}

/// Lets `attempt` do something in a sandbox home of its own, and removes every trace of it.
base::Result<base::Duration> in_trial_home(const AgentConfig& config, const char* kind,
                                           const std::function<base::Result<base::Duration>(const SandboxHome&)>& attempt) {
  SandboxHome home;
  home.label = fmt::format("doctor-{}-{}", kind, ::getpid());
  home.directory = "/run/thaw/" + home.label;
  home.init_path = config.init_path;
  home.uid_base = config.settings.uid_base;
  THAW_ASSIGN_OR_RETURN(home.cgroups, CgroupHost::detect());
  THAW_RETURN_IF_ERROR(make_directories(home.directory, 0755));
  auto took = attempt(home);
  home.cgroups->remove_parent(home.label);
  const base::Status removed = remove_tree(home.directory);
  if (took.ok() && !removed.ok()) return removed.error();
  return took;
}

/// Makes an empty sandbox as the node does for its pool. The time it took.
base::Result<base::Duration> try_runc(const SandboxHome& home) {
  THAW_ASSIGN_OR_RETURN(const auto maker, RuncMaker::open(home));
  const auto start = std::chrono::steady_clock::now();
  THAW_ASSIGN_OR_RETURN(const auto sandbox, maker->make_empty());
  const base::Duration took = std::chrono::steady_clock::now() - start;
  THAW_RETURN_IF_ERROR(sandbox->destroy());
  return took;
}

/// Runs a program that does nothing in a gVisor sandbox. The time until it had ended.
base::Result<base::Duration> try_runsc(const SandboxHome& home) {
  THAW_ASSIGN_OR_RETURN(const auto maker, RunscMaker::open(home));
  const auto start = std::chrono::steady_clock::now();
  THAW_ASSIGN_OR_RETURN(const auto sandbox, maker->make(base::InstanceId(1), {{}, "/usr/bin", {}}));
  const Fd output = sandbox->take_output();
  THAW_RETURN_IF_ERROR(sandbox->run({"/usr/bin/true"}, {}));
  const bool ended = wait_ended(sandbox->pidfd(), kTrialTimeout);
  const base::Duration took = std::chrono::steady_clock::now() - start;
  const auto exit = peek_exit(sandbox->pidfd());
  const Exit ending = sandbox->ending(exit.ok() ? *exit : Exit{});
  std::string said = read_available(output.get());
  THAW_RETURN_IF_ERROR(sandbox->destroy());
  if (!ended) return base::Error{base::ErrorKind::timeout, fmt::format("/usr/bin/true did not end within {:.0f} s", base::to_s(kTrialTimeout))};
  if (ending.signalled || ending.code != 0)
    return base::Error{base::ErrorKind::unavailable, fmt::format("/usr/bin/true ended with {}: {}", ending.text(), said.substr(0, 300))};
  return took;
}

}  // namespace

Finding examine_runc(const AgentConfig& config) {
  const auto path = find_runc();
  if (!path.ok()) return {"runc", failure_if_sandboxed(config), "not installed", "apt-get install runc, or start with --sandbox=none for development"};
  const auto version = version_of(*path);
  if (!version.ok()) return {"runc", failure_if_sandboxed(config), version.error().message, "reinstall runc: apt-get install --reinstall runc"};
  const std::string text = fmt::format("{} ({})", *version, *path);
  if (!check_privileges().ok()) return {"runc", Level::note, text + "; whether it can make sandboxes is for root to try", "run thaw doctor as root"};
  if (config.init_path.empty() || ::access(config.init_path.c_str(), X_OK) != 0) {
    return {"runc", failure_if_sandboxed(config), fmt::format("{}, but thaw-init is not at \"{}\"", text, config.init_path),
            "install thaw-init beside thaw"};
  }
  const auto took = in_trial_home(config, "runc", try_runc);
  if (!took.ok()) {
    return {"runc", failure_if_sandboxed(config), fmt::format("{} cannot make a sandbox: {}", *version, took.error().message),
            "mend what it says, or start with --sandbox=none for development"};
  }
  return {"runc", Level::ok, fmt::format("{}; an empty sandbox took {:.0f} ms", text, base::to_ms(*took)), ""};
}

Finding examine_runsc(const AgentConfig& config) {
  // Only who asked for it fails without it.
  const Level missing = config.settings.sandbox == spec::SandboxKind::runsc ? Level::failure : Level::note;
  const auto path = find_runsc();
  if (!path.ok()) return {"runsc", missing, "not installed: no gVisor sandboxes, no images", "apt-get install runsc"};
  const auto info = examine_runsc_at(*path);
  if (!info.ok()) return {"runsc", missing, info.error().message, "reinstall runsc: apt-get install --reinstall runsc"};
  const std::string text = fmt::format("{} ({}), platform {}, images {}, {}", info->version, *path, info->platform(),
                                       info->checkpoint.contains("compression") ? "uncompressed" : "compressed",
                                       info->nvproxy() ? "GPUs by nvproxy" : "no GPUs (no nvproxy)");
  if (!check_privileges().ok()) return {"runsc", Level::note, text + "; whether it can make sandboxes is for root to try", "run thaw doctor as root"};
  const auto took = in_trial_home(config, "runsc", try_runsc);
  if (!took.ok()) return {"runsc", missing, fmt::format("{} cannot make a sandbox: {}", text, took.error().message), "mend what it says"};
  return {"runsc", Level::ok, fmt::format("{}; a program in a sandbox took {:.0f} ms", text, base::to_ms(*took)), ""};
}

Finding examine_criu(const AgentConfig& config) {
  const std::string& given = config.settings.criu_path;
  const auto path = given.empty() ? find_criu() : base::Result<std::string>(given);
  if (!path.ok()) return {"criu", Level::note, "not installed: no images of models under runc", "install criu 3.18 or newer, if you want them"};
  if (!check_privileges().ok()) return {"criu", Level::note, *path + "; whether it works is for root to try", "run thaw doctor as root"};
  const auto info = examine_criu_at(*path);
  if (info.ok()) return {"criu", Level::ok, fmt::format("{} ({}): images of models under runc", info->version, *path), ""};
  const Capability why = incapable(info.error());
  return {"criu", Level::note, why.detail + ": no images of models under runc", why.remedy};
}

Finding examine_engine(const AgentConfig& config, const CudaSurvey& cuda) {
  const char* topic = "engine llama.cpp";
  const auto path = find_engine(spec::EngineKind::llama_cpp, {}, config.engine_paths);
  if (!path.ok()) {
    const std::string& message = path.error().message;  // "cannot …: why; what to do"
    return {topic, Level::failure, message.substr(0, message.rfind("; ")), "run scripts/install-engine, or set engines in the server's configuration"};
  }
  const auto version = version_of(*path);
  if (!version.ok()) return {topic, Level::failure, "does not run: " + version.error().message, "run scripts/install-engine"};
  const std::string text = fmt::format("{} ({})", *version, *path);
  if (!cuda.gpus.empty()) {
    std::error_code error;
    const auto directory = std::filesystem::canonical(*path, error).parent_path();
    if (!std::filesystem::exists(directory / "libggml-cuda.so", error)) {
      return {topic, Level::warning, text + " is built for the CPU only", "run scripts/install-engine --cuda"};
    }
  }
  return {topic, Level::ok, text, ""};
}

std::vector<Finding> examine_other_engines(const AgentConfig& config) {
  std::vector<Finding> findings;
  for (const spec::EngineKind kind : {spec::EngineKind::vllm, spec::EngineKind::sglang}) {
    const std::string name = spec::to_string(kind);
    const std::string topic = "engine " + name;
    const auto path = find_engine(kind, {}, config.engine_paths);
    if (!path.ok() && !config.engine_paths.contains(name)) continue;
    if (!path.ok()) {
      const std::string& message = path.error().message;
      findings.push_back(
          {topic, Level::warning, message.substr(0, message.rfind("; ")), "correct engines." + name + " in the server's configuration"});
      continue;
    }
    // Its version would take seconds: both import PyTorch to say it.
    const bool sandboxed = config.settings.sandbox != spec::SandboxKind::none;
    const auto placed = place_program(*path, sandboxed ? kInsideEngine : "");
    if (placed.ok())
      findings.push_back({topic, Level::ok, *path, ""});
    else
      findings.push_back({topic, Level::warning, placed.error().message, "see docs/engines.md"});
  }
  return findings;
}

}  // namespace thaw::node
