#include "node/sandbox/runsc.h"

#include <poll.h>
#include <sched.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <thread>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "node/host_access.h"
#include "node/sandbox/bundle.h"
#include "node/sandbox/clock.h"
#include "node/sandbox/contents.h"
#include "node/sandbox/files.h"
#include "node/sandbox/host_view.h"
#include "node/sandbox/image_root.h"
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
constexpr auto kBootTimeout = base::Seconds(10);  // 0.3 s on an idle machine
constexpr auto kBootPoll = base::Millis(5);
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

/// Until thaw-init says from inside that it is there (one byte, 0), or something else comes: runsc's reason.
base::Status wait_there(int output) {
  pollfd entry{output, POLLIN, 0};
  const int ready = ::poll(&entry, 1, static_cast<int>(duration_cast<std::chrono::milliseconds>(kBootTimeout).count()));
  if (ready == 0) return base::Error{base::ErrorKind::timeout, "gVisor was not up after 10 s"};
  char sign = 1;
  if (ready > 0 && ::read(output, &sign, 1) == 1 && sign == 0) return {};
  return base::Error{base::ErrorKind::unavailable,
                     "gVisor did not come up: " + readable(std::string(1, sign) + read_available(output))};
}

bool has_state_file(const std::string& directory) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error))
    if (entry.path().extension() == ".state" && entry.file_size(error) > 0) return true;
  return false;
}

}  // namespace

/// What of a new sandbox's ends its first process gets.
struct RunscMaker::Ends {
  int control = -1;
  int output = -1;
  int feed = -1;  ///< of a sandbox made ahead, for the program inside; else -1
};

/// What is known of one sandbox beside what Sandbox knows itself.
struct RunscMaker::Box {
  std::string name;
  std::string directory;
  std::uint32_t uid_slot = 0;
  Stage stage;
  std::string engine_dir;
  bool own_files = false;    ///< its root is an image's
  std::string working_dir;   ///< with it
  DeviceGrant devices;  ///< its mounts as they lie on the stage
  Ahead ahead = Ahead::no;  ///< else its contents come later
  std::string image;        ///< directory to restore from; empty: a start
  Fd gate;                  ///< the open end of gate()
  std::unique_ptr<Network> network;
  std::unique_ptr<NamespaceThread> thread;  ///< parent of thaw-init: it goes last
  bool released = false;                    ///< nothing is left

  [[nodiscard]] std::string state() const { return directory + "/runsc"; }
  /// A link to the image, where a restore began before that was known.
  [[nodiscard]] std::string later_image() const { return directory + "/image"; }
  /// The FIFO that runsc takes for its pid file. It writes one when everything but the image is done (container.New()
  /// in gVisor's runsc/container), and waits in open(2) until somebody opens the other end.
  [[nodiscard]] std::string gate_path() const { return directory + "/gate"; }
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
  THAW_RETURN_IF_ERROR(make_image_skeleton(home.image_skeleton()));
  THAW_RETURN_IF_ERROR(make_directories(home.boxes(), 0755));
  THAW_RETURN_IF_ERROR(home.cgroups->prepare_parent(home.label));
  return std::unique_ptr<RunscMaker>(new RunscMaker(std::move(home), std::move(info)));
}

LaunchPaths RunscMaker::view(base::InstanceId /*instance*/) const {
  return {"", kInsideModel, kInsideEngine, "", kInnerAddress, kInnerPort};  // without lazy_map: never tried in gVisor
}

base::Result<std::unique_ptr<Sandbox>> RunscMaker::make_empty() {
  return make_any({}, Ahead::for_start);
}

base::Result<std::unique_ptr<Sandbox>> RunscMaker::make_for_restore() {
  return make_any({}, Ahead::for_restore);
}

base::Result<std::unique_ptr<Sandbox>> RunscMaker::make(base::InstanceId /*instance*/,
                                                        const SandboxContents& contents) {
  if (!contents.devices.empty() && !info_.nvproxy())
    return base::Error{base::ErrorKind::unavailable,
                       fmt::format("cannot show a GPU to a gVisor sandbox: runsc {} has no nvproxy; install a release "
                                   "that has it (gvisor.dev, "
                                   "since 2023), or set spec.sandbox to runc if you trust the model and its engine",
                                   info_.version)};
  return make_any(contents, Ahead::no);
}

base::Result<std::unique_ptr<Sandbox>> RunscMaker::make_any(const SandboxContents& contents, Ahead ahead) {
  auto box = std::make_shared<Box>();
  box->ahead = ahead;
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

std::uint32_t RunscMaker::engine_uid(const Box& box) const {
  return home_.uid_base + box.uid_slot * kUidRange + kInsideUid;
}

base::Status RunscMaker::set_up(Box& box, const SandboxContents& contents, const Ends& ends, pid_t& pid) {
  THAW_ASSIGN_OR_RETURN(box.network, Network::make(box.directory + "/door"));
  THAW_ASSIGN_OR_RETURN(std::vector<Exposure> exposures, lay_out(box.directory, engine_uid(box), contents));
  box.stage = {box.directory + "/stage", std::move(exposures), box.ahead != Ahead::no, home_.directory};
  box.stage.exposures.push_back({home_.init_path, kInsideInit, true});
  if (!box.own_files) THAW_RETURN_IF_ERROR(make_grant_mount_points(home_.rootfs(), contents.devices, host_view_paths()));
  box.devices = contents.devices;
  for (Exposure& mount : box.devices.mounts) {
    box.stage.exposures.push_back(mount);
    mount.host_path = staged(box.stage, mount.inside_path);
  }
  THAW_ASSIGN_OR_RETURN(const std::string cover, set_stage(box.stage));
  if (box.own_files) {
    THAW_ASSIGN_OR_RETURN(box.devices, mount_granted_root(contents.root_layers, home_.image_skeleton(), box.directory, std::move(box.devices), false));
  }
  for (const char* later : {kInsideModel, kInsideEngine})
    THAW_RETURN_IF_ERROR(make_directories(staged(box.stage, later), 0755));
  if (::unshare(CLONE_NEWPID) != 0) return base::errno_error("cannot make a pid namespace", errno);
  std::vector<std::string> argv{home_.init_path, cover};
  if (ends.feed >= 0) argv.emplace_back("feed");
  THAW_ASSIGN_OR_RETURN(pid, spawn({.argv = argv,
                                    .env = {},
                                    .stdin_fd = ends.control,
                                    .output_fd = ends.output,
                                    .directory = "/",
                                    .feed_fd = ends.feed}));
  return {};
}

base::Result<std::unique_ptr<Sandbox>> RunscMaker::make_named(const std::shared_ptr<Box>& box,
                                                              const SandboxContents& contents) {
  box->engine_dir = contents.engine_dir;
  box->own_files = !contents.root_layers.empty();
  box->working_dir = contents.working_dir;
  THAW_RETURN_IF_ERROR(make_directories(box->directory + "/stage", 0755));
  THAW_RETURN_IF_ERROR(make_directories(box->state(), 0700));
  const Cgroup cgroup(home_.cgroups, home_.cgroups->parent_path(home_.label) + "/" + box->name);
  THAW_RETURN_IF_ERROR(cgroup.create());
  THAW_ASSIGN_OR_RETURN(FdPair control, make_control_pair());
  THAW_ASSIGN_OR_RETURN(FdPair output, make_output_pipe());
  const int said = output.ours.get();
  FdPair feed;
  if (box->ahead == Ahead::for_start) {
    THAW_ASSIGN_OR_RETURN(feed, make_feed_pipe());
  }
  const Ends ends{control.theirs.get(), output.theirs.get(), feed.theirs.get()};
  box->thread = std::make_unique<NamespaceThread>();
  pid_t pid = 0;
  THAW_RETURN_IF_ERROR(box->thread->run([&] { return set_up(*box, contents, ends, pid); }));
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
                     .contents_fixed = box->ahead == Ahead::no,
                     .exposer =
                         [this, box](const SandboxContents& shown) {
                           return box->thread->run([&]() -> base::Status {
                             THAW_ASSIGN_OR_RETURN(const std::vector<Exposure> exposures,
                                                   lay_out(box->directory, engine_uid(*box), shown));
                             return add_to_stage(box->stage, exposures);
                           });
                         },
                     .launcher = [this, box](const auto& argv, const auto& env) { return launch(*box, argv, env); },
                     .clean_up = [box] { return box->network->remove(); },
                     .released = [this, box] { release(*box); }});
  THAW_RETURN_IF_ERROR(cgroup.add(pid));
  if (auto joined = cgroup.join_freezer(pid); !joined.ok())
    spdlog::debug("sandbox {} cannot be frozen: {}", box->name, joined.error().message);
  output.theirs.reset();
  feed.theirs.reset();
  if (box->ahead != Ahead::no) THAW_RETURN_IF_ERROR(begin(*box, *sandbox, said, std::move(feed.ours)));
  return sandbox;
}

base::Status RunscMaker::begin(Box& box, Sandbox& sandbox, int output, Fd feed) const {
  if (box.ahead == Ahead::for_restore && ::mkfifo(box.gate_path().c_str(), 0600) != 0)
    return base::errno_error("cannot make " + box.gate_path(), errno);
  THAW_RETURN_IF_ERROR(sandbox.run({kInsideInit, "--become", std::string(kInsideEngine) + kOtherCpus}, {}));
  if (box.ahead == Ahead::for_start) {
    THAW_RETURN_IF_ERROR(wait_there(output));
    sandbox.feed_through(std::move(feed));
    return {};
  }
  // The last thing that runsc writes before it waits at the gate.
  for (const base::TimePoint give_up = now() + kBootTimeout; !has_state_file(box.state());) {
    if (sandbox.ended())
      return base::Error{base::ErrorKind::unavailable, "gVisor did not come up: " + readable(read_available(output))};
    if (now() > give_up) return base::Error{base::ErrorKind::timeout, "gVisor was not up after 10 s"};
    std::this_thread::sleep_for(kBootPoll);
  }
  return {};
}

base::Result<std::vector<std::string>> RunscMaker::launch(Box& box, const std::vector<std::string>& argv,
                                                          const std::map<std::string, std::string>& env) const {
  std::error_code ignored;
  std::string working_directory = box.own_files ? box.working_dir : "/";
  const bool has_other_cpus = !box.engine_dir.empty() && std::filesystem::is_directory(box.engine_dir + kOtherCpus, ignored);
  THAW_RETURN_IF_ERROR(
      write_bundle({.directory = box.directory,
                    .rootfs = box.own_files ? image_root_of(box.directory) : home_.rootfs(),
                    .run_dir = {},
                    .model_dir = {},
                    .open_dir = staged(box.stage, kInsideRoot),
                    .init_path = {},
                    .argv = argv,
                    .env = env,
                    .working_directory = has_other_cpus ? std::string(kInsideEngine) + kOtherCpus : std::move(working_directory),
                    .network = kOwnNetwork,
                    .cgroup_path = {},
                    .uid_base = home_.uid_base + box.uid_slot * kUidRange,
                    .pids_max = 0,
                    .exposures = {},
                    .devices = box.devices,
                    .own_files = box.own_files}));
  std::vector<std::string> command = info_.command(box.state());
  if (!box.devices.empty()) command.emplace_back("--nvproxy=true");
  if (box.image.empty() && box.ahead != Ahead::for_restore) {
    command.emplace_back("run");
  } else {
    if (box.ahead == Ahead::for_restore)
      command.insert(command.end(), {"restore", "--image-path=" + box.later_image(), "--pid-file=" + box.gate_path()});
    else
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
  if (box->ahead == Ahead::no) return sandbox.run(argv, env);
  if (box->ahead == Ahead::for_start)
    return base::Error{base::ErrorKind::invalid,
                       "cannot restore into sandbox " + sandbox.name() + ": it waits for a start"};
  if (::symlink(directory.c_str(), box->later_image().c_str()) != 0)
    return base::errno_error("cannot link " + box->later_image(), errno);
  // Kept open: runsc has still to write into it.
  box->gate = Fd(::open(box->gate_path().c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!box->gate) return base::errno_error("cannot open " + box->gate_path(), errno);
  return {};
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
