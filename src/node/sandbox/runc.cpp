#include "node/sandbox/runc.h"

#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "node/cpu/turns_plan.h"
#include "node/sandbox/bundle.h"
#include "node/sandbox/contents.h"
#include "node/sandbox/files.h"
#include "node/sandbox/host_view.h"
#include "node/sandbox/image_root.h"
#include "node/sandbox/network.h"
#include "node/sandbox/pipes.h"
#include "node/sandbox/search_path.h"

namespace thaw::node {
namespace {

constexpr auto kRuncTimeout = base::Seconds(30);  // 80 ms on an idle machine, seconds on a swamped one
constexpr std::uint32_t kInitialPids = 512;
constexpr const char* kCriuConfig = "/criu.conf";
constexpr const char* kLoopback = "127.0.0.1";  // of the sandbox's own network namespace, which has nothing else

/// Most of what runc does for a sandbox it does in the sandbox's own group. Beside engines that take turns, of which one has a hundred times the
/// usual weight (cpu/turns_plan.h), that would wait until they have answered: up to a second, where it takes 40 ms. So it counts as much as they do,
/// until it is done.
class PromptMaking {
 public:
  explicit PromptMaking(const Cgroup& group) : group_(group) {
    if (group.create().ok()) (void)group.set_cpu_weight(kMostCpuWeight);
  }
  ~PromptMaking() { (void)group_.set_cpu_weight(kUsualCpuWeight); }
  PromptMaking(const PromptMaking&) = delete;
  PromptMaking& operator=(const PromptMaking&) = delete;

 private:
  const Cgroup& group_;
};

/// A file system of its own for the engine's socket: the host's /run, in which it lies, is small, and an engine must not be able to fill it.
base::Status mount_run_dir(const std::string& path, std::uint32_t uid) {
  const std::string options = fmt::format("mode=700,uid={0},gid={0},size=256k,nr_inodes=64", uid);
  if (::mount("tmpfs", path.c_str(), "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options.c_str()) == 0) return {};
  return base::errno_error("cannot mount a tmpfs at " + path, errno);
}

base::Status unmount_run_dir(const std::string& path) {
  if (::umount2(path.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0 || errno == EINVAL || errno == ENOENT) return {};
  return base::errno_error("cannot unmount " + path, errno);
}

base::Result<pid_t> read_pid(const std::string& path) {
  THAW_ASSIGN_OR_RETURN(const std::string text, read_small_file(path));
  pid_t pid = 0;
  std::from_chars(text.data(), text.data() + text.size(), pid);
  if (pid <= 0) return base::Error{base::ErrorKind::internal, "cannot read a pid from " + path};
  return pid;
}

}  // namespace

std::string runc_reason(std::string text) {
  const std::size_t at = text.rfind("msg=\"");
  if (at != std::string::npos) text = text.substr(at + 5, text.find("\"\n", at + 5) - at - 5);
  while (!text.empty() && (text.back() == '\n' || text.back() == '"')) text.pop_back();
  return text.empty() ? "runc gave no reason" : text;
}

base::Result<std::string> find_runc() {
  if (std::string path = find_in_search_path("runc"); !path.empty()) return path;
  return base::Error{base::ErrorKind::not_found,
                     "cannot make sandboxes: runc is not installed; install the runc package (apt-get install runc), or start with --sandbox=none"};
}

base::Result<std::unique_ptr<RuncMaker>> RuncMaker::open(SandboxHome home, const std::string& given_runc, const std::string& given_criu) {
  THAW_ASSIGN_OR_RETURN(std::string runc, given_runc.empty() ? find_runc() : base::Result<std::string>(given_runc));
  if (::access(home.init_path.c_str(), X_OK) != 0)
    return base::errno_error("cannot make sandboxes: no thaw-init at " + home.init_path + " (it belongs beside the thaw binary)", errno);
  THAW_RETURN_IF_ERROR(make_rootfs(home.rootfs()));
  THAW_RETURN_IF_ERROR(make_image_skeleton(home.image_skeleton()));
  THAW_RETURN_IF_ERROR(make_directories(home.boxes(), 0755));
  THAW_RETURN_IF_ERROR(make_directories(home.runtime_root(), 0700));
  THAW_RETURN_IF_ERROR(home.cgroups->prepare_parent(home.label));
  base::Result<std::string> found = given_criu.empty() ? find_criu() : base::Result<std::string>(given_criu);
  base::Result<CriuInfo> criu = found.ok() ? examine_criu_at(*found) : base::Result<CriuInfo>(found.error());
  // A sandbox's own network has no connection to lock, and the lock needs iptables.
  if (criu.ok()) THAW_RETURN_IF_ERROR(write_file(home.directory + kCriuConfig, "network-lock skip\n", 0600));
  return std::unique_ptr<RuncMaker>(new RuncMaker(std::move(home), std::move(runc), std::move(criu)));
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

base::Result<RuncMaker::Place> RuncMaker::take_place() {
  THAW_ASSIGN_OR_RETURN(const std::uint32_t slot, home_.uid_slots->take());
  std::string name;
  {
    const std::lock_guard lock(mutex_);
    name = fmt::format("b{}", ++made_);
  }
  return Place{name, home_.boxes() + "/" + name, slot, home_.uid_base + slot * kUidRange,
               Cgroup(home_.cgroups, home_.cgroups->parent_path(home_.label) + "/" + name)};
}

/// Whatever stage it failed at: the runtime's record, control groups and files of this name go. An unknown name is no error.
base::Result<std::unique_ptr<Sandbox>> RuncMaker::given_up(const Place& place, const base::Error& why) {
  (void)node::run({.argv = command({"delete", "--force", place.name}), .env = environment()}, kRuncTimeout);
  (void)place.cgroup.remove(base::Seconds(1));
  (void)unmount_run_dir(run_dir_of(place.directory));
  (void)unmount_image_root(image_root_of(place.directory));
  (void)remove_tree(place.directory);
  home_.uid_slots->give_back(place.uid_slot);
  return why.within("cannot make a sandbox");
}

std::vector<std::string> RuncMaker::command(std::initializer_list<std::string> more) const {
  std::vector<std::string> argv{runc_, "--root", home_.runtime_root()};
  argv.insert(argv.end(), more);
  return argv;
}

/// runc looks for criu in its search path.
std::vector<std::string> RuncMaker::environment() const {
  std::string path = search_path_variable();
  if (criu_.ok()) path.insert(std::string_view("PATH=").size(), criu_->path.substr(0, criu_->path.rfind('/')) + ":");
  return {path};
}

base::Result<DeviceGrant> RuncMaker::prepare(const Place& place, const SandboxContents& contents) const {
  // The way to an image's root, which the sandbox's own root has to go.
  if (!contents.root_layers.empty()) THAW_RETURN_IF_ERROR(make_directories(place.directory, 0755));
  THAW_RETURN_IF_ERROR(make_directories(run_dir_of(place.directory), 0700));
  THAW_RETURN_IF_ERROR(make_directories(model_dir_of(place.directory), 0755));
  THAW_RETURN_IF_ERROR(mount_run_dir(run_dir_of(place.directory), place.uid_base + kInsideUid));
  THAW_RETURN_IF_ERROR(make_placeholders(place.directory, contents));
  if (!contents.root_layers.empty())
    return mount_granted_root(contents.root_layers, home_.image_skeleton(), place.directory, contents.devices, true);
  THAW_RETURN_IF_ERROR(make_grant_mount_points(home_.rootfs(), contents.devices, host_view_paths()));
  return contents.devices;
}

base::Result<Bundle> RuncMaker::bundle_of(const Place& place, const SandboxContents& contents, DeviceGrant devices) const {
  THAW_ASSIGN_OR_RETURN(std::vector<Exposure> exposures, lay_out(place.directory, place.uid_base + kInsideUid, contents));
  const bool own_files = !contents.root_layers.empty();
  return Bundle{.directory = place.directory,
                .rootfs = own_files ? image_root_of(place.directory) : home_.rootfs(),
                .run_dir = run_dir_of(place.directory),
                .model_dir = model_dir_of(place.directory),
                .init_path = home_.init_path,
                .working_directory = contents.working_dir,
                .lazy_map_path = home_.lazy_map_path,
                .cgroup_path = place.cgroup.path(),
                .uid_base = place.uid_base,
                .pids_max = kInitialPids,
                .report_socket = home_.report_socket,
                .exposures = std::move(exposures),
                .devices = std::move(devices),
                .own_files = own_files,
                .criu_config = criu_.ok() ? home_.directory + kCriuConfig : std::string()};
}

base::Result<std::unique_ptr<Sandbox>> RuncMaker::make_any(const SandboxContents& contents, bool fixed) {
  THAW_ASSIGN_OR_RETURN(const Place place, take_place());
  const auto make = [&]() -> base::Result<std::unique_ptr<Sandbox>> {
    THAW_ASSIGN_OR_RETURN(DeviceGrant devices, prepare(place, contents));
    THAW_ASSIGN_OR_RETURN(const Bundle bundle, bundle_of(place, contents, std::move(devices)));
    THAW_RETURN_IF_ERROR(write_bundle(bundle));
    THAW_ASSIGN_OR_RETURN(FdPair control, make_control_pair());
    const PromptMaking prompt(place.cgroup);
    return launch(place, command({"run"}), std::move(control.ours), control.theirs.get(), fixed, kRuncTimeout);
  };
  auto sandbox = make();
  return sandbox.ok() ? std::move(sandbox) : given_up(place, sandbox.error());
}

/// `argv`: runc and a subcommand that leaves a container behind.
base::Result<std::unique_ptr<Sandbox>> RuncMaker::launch(const Place& place, std::vector<std::string> argv, Fd control, int stdin_fd, bool fixed,
                                                         base::Duration timeout) const {
  THAW_ASSIGN_OR_RETURN(FdPair output, make_output_pipe());
  const std::string pid_file = place.directory + "/pid";
  argv.insert(argv.end(), {"--detach", "--bundle", place.directory, "--pid-file", pid_file, place.name});
  auto exit = node::run({.argv = argv, .env = environment(), .stdin_fd = stdin_fd, .output_fd = output.theirs.get(), .directory = {}}, timeout);
  if (!exit.ok()) return exit.error();
  if (exit->signalled || exit->code != 0)
    return base::Error{base::ErrorKind::unavailable,
                       fmt::format("runc ended with {}: {}", exit->text(), runc_reason(read_available(output.ours.get())))};

  THAW_ASSIGN_OR_RETURN(const pid_t pid, read_pid(pid_file));
  THAW_ASSIGN_OR_RETURN(Fd pidfd, open_pidfd(pid));
  // The engine, its child, will be born there. Without a freezer it cannot rest, and serves all the same.
  if (auto joined = place.cgroup.join_freezer(pid); !joined.ok()) spdlog::debug("sandbox {}: {}", place.name, joined.error().message);
  const bool let_go = !control;
  return std::make_unique<Sandbox>(Sandbox::Parts{.name = place.name,
                                                  .directory = place.directory,
                                                  .socket_path = run_dir_of(place.directory) + "/" + kSocketName,
                                                  .cgroup = place.cgroup,
                                                  .pid = pid,
                                                  .pidfd = std::move(pidfd),
                                                  .control = std::move(control),
                                                  .output = std::move(output.ours),
                                                  .runtime_state = home_.runtime_root() + "/" + place.name,
                                                  .contents_fixed = fixed,
                                                  .engine_uid = place.uid_base + kInsideUid,
                                                  .own_network = true,
                                                  .let_go = let_go,
                                                  .clean_up = [directory = place.directory]() -> base::Status {
                                                    THAW_RETURN_IF_ERROR(unmount_run_dir(run_dir_of(directory)));
                                                    return unmount_image_root(image_root_of(directory));
                                                  },
                                                  .released = [slots = home_.uid_slots, slot = place.uid_slot] { slots->give_back(slot); }});
}

}  // namespace thaw::node
