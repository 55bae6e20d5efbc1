#include "node/sandbox/runsc.h"

#include <sched.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "node/host_access.h"
#include "node/sandbox/bundle.h"
#include "node/sandbox/clock.h"
#include "node/sandbox/contents.h"
#include "node/sandbox/files.h"
#include "node/sandbox/namespace_thread.h"
#include "node/sandbox/network.h"
#include "node/sandbox/pipes.h"
#include "node/sandbox/search_path.h"
#include "node/sandbox/stage.h"

namespace thaw::node {
namespace {

// gVisor hides CPU features that its release does not know from what runs inside, so the engine may not be able to use
// the library that scripts/install-engine chose for this CPU. The others lie here; llama.cpp looks for the best also in
// its working directory.
constexpr const char* kOtherCpus = "/other-cpus";
constexpr const char* kOwnNetwork = "/proc/self/ns/net";  // of runsc, which is in the inner namespace already

/// runsc's reason. It may print a whole object of its own in the middle: what failed stands at the front, and why at
/// the end.
std::string readable(std::string text) {
  constexpr std::size_t kFront = 120;
  constexpr std::size_t kEnd = 360;
  while (!text.empty() && text.back() == '\n') text.pop_back();
  if (text.size() > kFront + kEnd) text.replace(kFront, text.size() - kFront - kEnd, " … ");
  return text.empty() ? "it gave no reason" : text;
}

}  // namespace

/// What is known of one sandbox beside what Sandbox knows itself.
struct RunscMaker::Box {
  std::string name;
  std::string directory;
  std::uint32_t uid_slot = 0;
  Stage stage;
  std::string engine_dir;
  std::string image;  ///< directory to restore from; empty: a start
  std::unique_ptr<Network> network;
  std::unique_ptr<NamespaceThread> thread;  ///< parent of thaw-init: it goes last
  bool released = false;                    ///< nothing is left

  [[nodiscard]] std::string state() const { return directory + "/runsc"; }
};

base::Result<std::unique_ptr<RunscMaker>> RunscMaker::open(SandboxHome home) {
  THAW_ASSIGN_OR_RETURN(const std::string path, find_runsc());
  THAW_ASSIGN_OR_RETURN(RunscInfo info, examine_runsc_at(path));
  THAW_RETURN_IF_ERROR(check_network_privileges());
  if (!can_inject_mounts())
    return base::Error{base::ErrorKind::unavailable,
                       "cannot make gVisor sandboxes: this kernel is older than 5.12; choose the sandbox runc"};
  if (::access(home.init_path.c_str(), X_OK) != 0)
    return base::errno_error(
        "cannot make sandboxes: no thaw-init at " + home.init_path + " (it belongs beside the thaw binary)", errno);
  THAW_RETURN_IF_ERROR(make_rootfs(home.rootfs()));
  THAW_RETURN_IF_ERROR(make_directories(home.boxes(), 0755));
  THAW_RETURN_IF_ERROR(home.cgroups->prepare_parent(home.label));
  return std::unique_ptr<RunscMaker>(new RunscMaker(std::move(home), std::move(info)));
}

LaunchPaths RunscMaker::view(base::InstanceId /*instance*/) const {
  return {"", kInsideModel, kInsideEngine, "", kInnerAddress, kInnerPort};  // without lazy_map: never tried in gVisor
}

base::Result<std::unique_ptr<Sandbox>> RunscMaker::make_empty() {
  return base::Error{base::ErrorKind::unavailable, "cannot make gVisor sandboxes ahead: their contents must be known"};
}

base::Result<std::unique_ptr<Sandbox>> RunscMaker::make(base::InstanceId /*instance*/,
                                                        const SandboxContents& contents) {
  if (!contents.device_nodes.empty() && !info_.nvproxy())
    return base::Error{base::ErrorKind::unavailable,
                       fmt::format("cannot show a GPU to a gVisor sandbox: runsc {} has no nvproxy; install a release "
                                   "that has it (gvisor.dev, "
                                   "since 2023), or set spec.sandbox to runc if you trust the model and its engine",
                                   info_.version)};
  auto box = std::make_shared<Box>();
  THAW_ASSIGN_OR_RETURN(box->uid_slot, home_.uid_slots->take());
  {
    const std::lock_guard lock(mutex_);
    box->name = fmt::format("g{}", ++made_);
    box->directory = home_.boxes() + "/" + box->name;
    boxes_[box->name] = box;
  }
  auto sandbox = make_named(box, contents);
  if (sandbox.ok()) return sandbox;
  // Whatever stage it failed at: a process that was started is in the group, or waits for a message that never comes.
  (void)Cgroup(home_.cgroups, home_.cgroups->parent_path(home_.label) + "/" + box->name).remove(base::Seconds(1));
  if (box->network) (void)box->network->remove();
  (void)remove_tree(box->directory);
  if (!box->released) release(*box);
  return sandbox.error().within("cannot make a gVisor sandbox");
}

base::Status RunscMaker::furnish(Box& box, const SandboxContents& contents, int control_fd, int output_fd, pid_t& pid) {
  THAW_ASSIGN_OR_RETURN(box.network, Network::make(box.directory + "/door"));
  box.stage = {box.directory + "/stage", exposures_of(contents), home_.directory};
  THAW_ASSIGN_OR_RETURN(const std::string cover, set_stage(box.stage));
  if (::unshare(CLONE_NEWPID) != 0) return base::errno_error("cannot make a pid namespace", errno);
  THAW_ASSIGN_OR_RETURN(pid, spawn({.argv = {home_.init_path, cover},
                                    .env = {},
                                    .stdin_fd = control_fd,
                                    .output_fd = output_fd,
                                    .directory = "/"}));
  return {};
}

base::Result<std::unique_ptr<Sandbox>> RunscMaker::make_named(const std::shared_ptr<Box>& box,
                                                              const SandboxContents& contents) {
  box->engine_dir = contents.engine_dir;
  THAW_RETURN_IF_ERROR(make_directories(box->directory + "/stage", 0755));
  THAW_RETURN_IF_ERROR(make_directories(box->state(), 0700));
  const Cgroup cgroup(home_.cgroups, home_.cgroups->parent_path(home_.label) + "/" + box->name);
  THAW_RETURN_IF_ERROR(cgroup.create());
  THAW_ASSIGN_OR_RETURN(FdPair control, make_control_pair());
  THAW_ASSIGN_OR_RETURN(FdPair output, make_output_pipe());
  box->thread = std::make_unique<NamespaceThread>();
  pid_t pid = 0;
  THAW_RETURN_IF_ERROR(
      box->thread->run([&] { return furnish(*box, contents, control.theirs.get(), output.theirs.get(), pid); }));
  THAW_ASSIGN_OR_RETURN(Fd pidfd, open_pidfd(pid));
  auto sandbox = std::make_unique<Sandbox>(
      Sandbox::Parts{.name = box->name,
                     .directory = box->directory,
                     .socket_path = base::to_string(box->network->endpoint()),
                     .cgroup = cgroup,
                     .pid = pid,
                     .pidfd = std::move(pidfd),
                     .control = std::move(control.ours),
                     .output = std::move(output.ours),
                     .runtime_state = {},
                     .contents_fixed = true,
                     .launcher = [this, box](const auto& argv, const auto& env) { return launch(*box, argv, env); },
                     .clean_up = [box] { return box->network->remove(); },
                     .released = [this, box] { release(*box); }});
  THAW_RETURN_IF_ERROR(cgroup.add(pid));
  if (auto joined = cgroup.join_freezer(pid); !joined.ok())
    spdlog::debug("sandbox {} cannot be frozen: {}", box->name, joined.error().message);
  return sandbox;
}

base::Result<std::vector<std::string>> RunscMaker::launch(Box& box, const std::vector<std::string>& argv,
                                                          const std::map<std::string, std::string>& env) const {
  std::error_code ignored;
  const bool has_other_cpus = std::filesystem::is_directory(box.engine_dir + kOtherCpus, ignored);
  THAW_RETURN_IF_ERROR(
      write_bundle({.directory = box.directory,
                    .rootfs = home_.rootfs(),
                    .run_dir = {},
                    .model_dir = staged(box.stage, kInsideModel),
                    .init_path = {},
                    .argv = argv,
                    .env = env,
                    .working_directory = has_other_cpus ? std::string(kInsideEngine) + kOtherCpus : "/",
                    .network = kOwnNetwork,
                    .cgroup_path = {},
                    .uid_base = home_.uid_base + box.uid_slot * kUidRange,
                    .pids_max = 0,
                    .exposures = {{staged(box.stage, kInsideEngine), kInsideEngine, true}},
                    .device_nodes = {}}));
  std::vector<std::string> command = info_.command(box.state());
  if (box.image.empty()) {
    command.emplace_back("run");
  } else {
    command.insert(command.end(), {"restore", "--image-path=" + box.image});
    if (info_.restore.contains("background")) command.emplace_back("--background");
  }
  command.insert(command.end(), {"--bundle=" + box.directory, box.name});
  return command;
}

bool RunscMaker::made(const Sandbox& sandbox) const {
  return find(sandbox.name()) != nullptr;
}

base::Status RunscMaker::checkpoint(const Sandbox& sandbox, const std::string& directory, base::Duration timeout) {
  const std::shared_ptr<Box> box = find(sandbox.name());
  if (!box)
    return base::Error{base::ErrorKind::invalid,
                       "cannot checkpoint sandbox " + sandbox.name() + ": it is no gVisor sandbox"};
  std::vector<std::string> command = info_.command(box->state());
  command.insert(command.end(), {"checkpoint", "--image-path=" + directory});
  if (info_.checkpoint.contains("compression")) command.emplace_back("--compression=none");
  if (info_.checkpoint.contains("exclude-committed-zero-pages")) command.emplace_back("--exclude-committed-zero-pages");
  command.push_back(box->name);
  THAW_ASSIGN_OR_RETURN(FdPair output, make_output_pipe());
  // In the sandbox's network namespace, where runsc's control socket is, and in its pid namespace, whose numbers runsc
  // remembers.
  return box->thread->run([&]() -> base::Status {
    THAW_ASSIGN_OR_RETURN(
        const Exit exit,
        node::run({.argv = command, .env = {search_path_variable()}, .output_fd = output.theirs.get()}, timeout));
    if (!exit.signalled && exit.code == 0) return {};
    return base::Error{base::ErrorKind::unavailable, fmt::format("runsc checkpoint ended with {}: {}", exit.text(),
                                                                 readable(read_available(output.ours.get())))};
  });
}

base::Status RunscMaker::restore(Sandbox& sandbox, const std::string& directory, const std::vector<std::string>& argv,
                                 const std::map<std::string, std::string>& env) {
  const std::shared_ptr<Box> box = find(sandbox.name());
  if (!box)
    return base::Error{base::ErrorKind::invalid,
                       "cannot restore into sandbox " + sandbox.name() + ": it is no gVisor sandbox"};
  box->image = directory;
  return sandbox.run(argv, env);
}

std::shared_ptr<RunscMaker::Box> RunscMaker::find(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  const auto found = boxes_.find(name);
  return found == boxes_.end() ? nullptr : found->second;
}

void RunscMaker::release(Box& box) {
  box.released = true;
  box.thread.reset();
  home_.uid_slots->give_back(box.uid_slot);
  const std::lock_guard lock(mutex_);
  boxes_.erase(box.name);
}

}  // namespace thaw::node
