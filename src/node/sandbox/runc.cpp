#include "node/sandbox/runc.h"

#include <sys/socket.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "node/sandbox/bundle.h"
#include "node/sandbox/contents.h"
#include "node/sandbox/files.h"
#include "node/sandbox/network.h"
#include "node/sandbox/pipes.h"
#include "node/sandbox/search_path.h"

namespace thaw::node {
namespace {

constexpr auto kRuncTimeout = base::Seconds(30);  // 80 ms on an idle machine, seconds on a swamped one
constexpr std::uint32_t kInitialPids = 512;
constexpr const char* kLoopback = "127.0.0.1";  // of the sandbox's own network namespace, which has nothing else

/// runc logs `time="…" level=error msg="…"`; people want the message.
std::string readable(std::string text) {
  const std::size_t at = text.rfind("msg=\"");
  if (at != std::string::npos) text = text.substr(at + 5, text.find("\"\n", at + 5) - at - 5);
  while (!text.empty() && (text.back() == '\n' || text.back() == '"')) text.pop_back();
  return text.empty() ? "runc gave no reason" : text;
}

base::Result<pid_t> read_pid(const std::string& path) {
  THAW_ASSIGN_OR_RETURN(const std::string text, read_small_file(path));
  pid_t pid = 0;
  std::from_chars(text.data(), text.data() + text.size(), pid);
  if (pid <= 0) return base::Error{base::ErrorKind::internal, "cannot read a pid from " + path};
  return pid;
}

}  // namespace

base::Result<std::string> find_runc() {
  if (std::string path = find_in_search_path("runc"); !path.empty()) return path;
  return base::Error{base::ErrorKind::not_found,
                     "cannot make sandboxes: runc is not installed; install the runc package (apt-get install runc), or start with --sandbox=none"};
}

base::Result<std::unique_ptr<RuncMaker>> RuncMaker::open(SandboxHome home) {
  THAW_ASSIGN_OR_RETURN(std::string runc, find_runc());
  if (::access(home.init_path.c_str(), X_OK) != 0)
    return base::errno_error("cannot make sandboxes: no thaw-init at " + home.init_path + " (it belongs beside the thaw binary)", errno);
  THAW_RETURN_IF_ERROR(make_rootfs(home.rootfs()));
  THAW_RETURN_IF_ERROR(make_directories(home.boxes(), 0755));
  THAW_RETURN_IF_ERROR(make_directories(home.runtime_root(), 0700));
  THAW_RETURN_IF_ERROR(home.cgroups->prepare_parent(home.label));
  return std::unique_ptr<RuncMaker>(new RuncMaker(std::move(home), std::move(runc)));
}

LaunchPaths RuncMaker::view(base::InstanceId /*instance*/) const {
  return {std::string(kInsideRun) + "/" + kSocketName, kInsideModel, kInsideEngine, home_.lazy_map_path.empty() ? "" : kInsideLazyMap,
          kLoopback, kInnerPort};
}

base::Result<std::unique_ptr<Sandbox>> RuncMaker::make(base::InstanceId /*instance*/, const SandboxContents& contents) {
  return make_any(contents, true);
}

base::Result<std::unique_ptr<Sandbox>> RuncMaker::make_empty() {
  if (!can_inject_mounts())
    return base::Error{base::ErrorKind::unavailable, "cannot make sandboxes ahead: this kernel is older than 5.12 and cannot add mounts later"};
  return make_any({}, false);
}

base::Result<std::unique_ptr<Sandbox>> RuncMaker::make_any(const SandboxContents& contents, bool fixed) {
  THAW_ASSIGN_OR_RETURN(const std::uint32_t slot, home_.uid_slots->take());
  std::string name;
  {
    const std::lock_guard lock(mutex_);
    name = fmt::format("b{}", ++made_);
  }
  auto sandbox = make_named(name, slot, contents, fixed);
  if (sandbox.ok()) return sandbox;
  // Whatever stage it failed at: the runtime's record, control groups and files of this name go. An unknown name is no error.
  (void)node::run({.argv = {runc_, "--root", home_.runtime_root(), "delete", "--force", name}, .env = {search_path_variable()}}, kRuncTimeout);
  (void)Cgroup(home_.cgroups, home_.cgroups->parent_path(home_.label) + "/" + name).remove(base::Seconds(1));
  (void)remove_tree(home_.boxes() + "/" + name);
  home_.uid_slots->give_back(slot);
  return sandbox.error().within("cannot make a sandbox");
}

base::Result<std::unique_ptr<Sandbox>> RuncMaker::make_named(const std::string& name, std::uint32_t uid_slot, const SandboxContents& contents,
                                                             bool fixed) {
  const std::string directory = home_.boxes() + "/" + name;
  const std::uint32_t uid_base = home_.uid_base + uid_slot * kUidRange;
  THAW_RETURN_IF_ERROR(make_directories(run_dir_of(directory), 0700));
  THAW_RETURN_IF_ERROR(make_directories(model_dir_of(directory), 0755));
  if (::chown(run_dir_of(directory).c_str(), uid_base + kInsideUid, uid_base + kInsideUid) != 0)
    return base::errno_error("cannot give " + run_dir_of(directory) + " to the engine's uid", errno);
  THAW_RETURN_IF_ERROR(make_placeholders(directory, contents));
  const Cgroup cgroup(home_.cgroups, home_.cgroups->parent_path(home_.label) + "/" + name);
  THAW_RETURN_IF_ERROR(write_bundle({.directory = directory,
                                     .rootfs = home_.rootfs(),
                                     .run_dir = run_dir_of(directory),
                                     .model_dir = model_dir_of(directory),
                                     .init_path = home_.init_path,
                                     .lazy_map_path = home_.lazy_map_path,
                                     .cgroup_path = cgroup.path(),
                                     .uid_base = uid_base,
                                     .pids_max = kInitialPids,
                                     .exposures = exposures_of(contents),
                                     .device_nodes = contents.device_nodes}));

  THAW_ASSIGN_OR_RETURN(FdPair control, make_control_pair());
  THAW_ASSIGN_OR_RETURN(FdPair output, make_output_pipe());
  const std::string pid_file = directory + "/pid";
  auto exit = node::run({.argv = {runc_, "--root", home_.runtime_root(), "run", "--detach", "--bundle", directory, "--pid-file", pid_file, name},
                         .env = {search_path_variable()},
                         .stdin_fd = control.theirs.get(),
                         .output_fd = output.theirs.get(),
                         .directory = {}},
                        kRuncTimeout);
  if (!exit.ok()) return exit.error();
  if (exit->signalled || exit->code != 0)
    return base::Error{base::ErrorKind::unavailable, fmt::format("runc ended with {}: {}", exit->text(), readable(read_available(output.ours.get())))};

  THAW_ASSIGN_OR_RETURN(const pid_t pid, read_pid(pid_file));
  THAW_ASSIGN_OR_RETURN(Fd pidfd, open_pidfd(pid));
  // The engine, its child, will be born there. Without a freezer it cannot rest, and serves all the same.
  if (auto joined = cgroup.join_freezer(pid); !joined.ok()) spdlog::debug("sandbox {}: {}", name, joined.error().message);
  return std::make_unique<Sandbox>(Sandbox::Parts{.name = name,
                                                  .directory = directory,
                                                  .socket_path = run_dir_of(directory) + "/" + kSocketName,
                                                  .cgroup = cgroup,
                                                  .pid = pid,
                                                  .pidfd = std::move(pidfd),
                                                  .control = std::move(control.ours),
                                                  .output = std::move(output.ours),
                                                  .runtime_state = home_.runtime_root() + "/" + name,
                                                  .contents_fixed = fixed,
                                                  .engine_uid = uid_base + kInsideUid,
                                                  .own_network = true,
                                                  .released = [slots = home_.uid_slots, uid_slot] { slots->give_back(uid_slot); }});
}

}  // namespace thaw::node
