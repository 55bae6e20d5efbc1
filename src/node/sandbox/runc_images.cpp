/// Images of runc sandboxes: runc hands criu the container, as a whole, and has it made again in another sandbox's
/// place. What of our sandboxes criu cannot carry over is dealt with here:
///
///     thaw-init's socket to the node   is closed before (Sandbox::let_go()); a restored one tells by its exit status
///     the node as its parent           its death is ours again only from Sandbox::hold() on
///     its range of host uids           is another one for each sandbox: the user namespace's image is rewritten
///     mounts of the host's files       the sandbox's own root opens them, who may not go everywhere: the stage
///     the loopback interface           comes up down: the node brings it up
#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include <cerrno>
#include <filesystem>
#include <sstream>
#include <system_error>
#include <thread>

#include <fmt/format.h>

#include "node/sandbox/bundle.h"
#include "node/sandbox/clock.h"
#include "node/sandbox/contents.h"
#include "node/sandbox/files.h"
#include "node/sandbox/namespace_thread.h"
#include "node/sandbox/netlink.h"
#include "node/sandbox/pipes.h"
#include "node/sandbox/process.h"
#include "node/sandbox/runc.h"
#include "node/sandbox/stage.h"
#include "node/sandbox/userns_image.h"

namespace thaw::node {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ErrorKind;

constexpr auto kLetGoTimeout = base::Seconds(2);
constexpr auto kEndTimeout = base::Seconds(5);  // criu kills what it dumped
constexpr std::size_t kMaxLog_bytes = 1U << 20;
// The sandbox's root opens files in an image's directory by name. It lies below one that is closed to all but root.
constexpr int kInsideImages = 0711;
constexpr int kInsideImage = 0644;
// Without these there is nothing to restore, whatever runc said.
constexpr const char* kNeeded[] = {"inventory.img", "pstree.img", "descriptors.json"};

/// criu's reason, of its log in `directory`.
std::string reason_in(const std::string& directory, const char* log, const std::string& said) {
  const Fd file(::open((directory + "/" + log).c_str(), O_RDONLY | O_CLOEXEC));
  std::string text(kMaxLog_bytes, '\0');
  const ssize_t got = file ? ::read(file.get(), text.data(), text.size()) : 0;
  text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  // The first error that ended it, not what criu minds and goes on after.
  std::istringstream lines(text);
  std::string errors;
  for (std::string line; std::getline(lines, line);)
    if (line.find("Error (") != std::string::npos && line.find("rlimit:") == std::string::npos) errors += line + "\n";
  return errors.empty() ? said : criu_reason(errors);
}

/// The one file of the image that is named for the user namespace.
base::Result<std::string> userns_file(const std::string& directory) {
  std::error_code error;
  std::string found;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename();
    if (!name.starts_with("userns-") || !name.ends_with(".img")) continue;
    if (!found.empty()) return Error{ErrorKind::invalid, "the image has more than one user namespace"};
    found = name;
  }
  if (found.empty()) return Error{ErrorKind::invalid, "the image has no user namespace"};
  return found;
}

base::Status check_whole(const std::string& directory) {
  struct stat info {};
  for (const char* name : kNeeded)
    if (::stat((directory + "/" + name).c_str(), &info) != 0 || info.st_size == 0)
      return Error{ErrorKind::internal, fmt::format("criu said that it was done, and wrote no {}", name)};
  THAW_ASSIGN_OR_RETURN(const std::string userns, userns_file(directory));
  THAW_ASSIGN_OR_RETURN(const std::string text, read_small_file(directory + "/" + userns));
  return with_uid_base(text, 0).ok() ? base::Status() : base::Status(with_uid_base(text, 0).error());
}

base::Status open_to_sandboxes(const std::string& directory) {
  std::error_code error;
  if (::chmod(directory.c_str(), kInsideImages) != 0) return base::errno_error("cannot open " + directory, errno);
  for (const auto& entry : fs::directory_iterator(directory, error))
    if (::chmod(entry.path().c_str(), kInsideImage) != 0)
      return base::errno_error("cannot open " + entry.path().string(), errno);
  return error ? base::errno_error("cannot list " + directory, error.value()) : base::Status();
}

/// Puts every path of the host that the bundle shows on the stage, and has it shown from there.
void put_on_stage(Bundle& bundle, Stage& stage) {
  int count = 0;
  const auto move = [&](std::string& path, bool executable, bool writable) {
    if (path.empty()) return;
    stage.exposures.push_back({path, fmt::format("/{}", count++), executable, writable});
    path = staged(stage, stage.exposures.back().inside_path);
  };
  move(bundle.run_dir, false, true);
  move(bundle.model_dir, false, false);
  move(bundle.init_path, true, false);
  move(bundle.lazy_map_path, true, false);
  for (Exposure& exposure : bundle.exposures) move(exposure.host_path, exposure.executable, exposure.writable);
}

/// The rest of the line of /proc/PID/status that begins with `name`, without blanks at its front; tabs stay.
std::string status_of(const std::string& status, const std::string& name) {
  const std::size_t at = status.find("\n" + name + ":\t");
  if (at == std::string::npos) return {};
  const std::size_t begin = at + name.size() + 3;
  return status.substr(begin, status.find('\n', begin) - begin);
}

std::string namespace_of(const std::string& pid, const char* name) {
  std::error_code error;
  return fs::read_symlink(fmt::format("/proc/{}/ns/{}", pid, name), error).string();
}

/// criu is another's program with root's rights: what it made is looked at before anybody uses it.
base::Status check_confined(const std::vector<pid_t>& pids, pid_t init, std::uint32_t uid) {
  const auto error = [](std::string what) {
    return Error{ErrorKind::conflict, "criu restored a process that is less confined than it was: " + what};
  };
  const std::string no_capabilities(16, '0');
  const std::string ids = fmt::format("{0}\t{0}\t{0}\t{0}", uid);
  for (const pid_t pid : pids) {
    const auto status = read_small_file(fmt::format("/proc/{}/status", pid));
    if (!status.ok() || status_of(*status, "State").starts_with("Z")) continue;  // it has ended
    for (const char* name : {"Uid", "Gid"})
      if (status_of(*status, name) != ids) return error(fmt::format("{} {}", name, status_of(*status, name)));
    for (const char* name : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"})
      if (status_of(*status, name) != no_capabilities)
        return error(fmt::format("{} {}", name, status_of(*status, name)));
    if (status_of(*status, "NoNewPrivs") != "1") return error("it may gain privileges");
    if (status_of(*status, "Seccomp") != "2") return error("it has no seccomp filter");
    for (const char* name : {"user", "pid", "mnt", "net", "ipc", "uts", "cgroup"}) {
      const std::string own = namespace_of(std::to_string(pid), name);
      if (own.empty()) break;  // it has ended just now
      if (own != namespace_of(std::to_string(init), name) || own == namespace_of("self", name))
        return error(fmt::format("its {} namespace is not the sandbox's", name));
    }
  }
  return {};
}

base::Status bring_loopback_up(pid_t pid) {
  const Fd network(::open(fmt::format("/proc/{}/ns/net", pid).c_str(), O_RDONLY | O_CLOEXEC));
  if (!network) return base::errno_error("cannot open the sandbox's network", errno);
  NamespaceThread thread;
  return thread.run([&]() -> base::Status {
    if (::setns(network.get(), CLONE_NEWNET) != 0)
      return base::errno_error("cannot enter the sandbox's network", errno);
    THAW_ASSIGN_OR_RETURN(Netlink netlink, Netlink::open());
    return netlink.bring_up("lo");
  });
}

}  // namespace

std::string RuncMaker::image_runtime() const {
  struct utsname kernel {};
  ::uname(&kernel);
  std::string mapped;  // as code of the restored processes: another build of them crashes there
  for (const std::string& path : {home_.init_path, home_.lazy_map_path}) {
    struct stat info {};
    if (!path.empty() && ::stat(path.c_str(), &info) == 0)
      mapped += fmt::format("{} {}.{} ", info.st_size, info.st_mtim.tv_sec, info.st_mtim.tv_nsec);
  }
  return fmt::format("criu {} Linux {} {} {}", criu_.ok() ? criu_->version : "-", kernel.release, kLayout,
                     label_of(mapped));
}

base::Status RuncMaker::checkpoint(Sandbox& sandbox, const std::string& directory, base::Duration timeout) {
  if (!criu_.ok()) return criu_.error();
  if (!can_checkpoint(sandbox))
    return Error{ErrorKind::invalid,
                 "cannot make an image of sandbox " + sandbox.name() + ": it was made ahead, or is no runc sandbox"};
  THAW_RETURN_IF_ERROR(sandbox.let_go(kLetGoTimeout));
  const std::string work = home_.boxes() + "/" + sandbox.name() + "/criu";
  THAW_RETURN_IF_ERROR(make_directories(work, 0700));
  THAW_ASSIGN_OR_RETURN(FdPair output, make_output_pipe());
  const auto exit =
      node::run({.argv = command({"checkpoint", "--image-path", directory, "--work-path", work, sandbox.name()}),
                 .env = environment(),
                 .output_fd = output.theirs.get()},
                timeout);
  base::Status done = exit.ok() ? base::Status() : base::Status(exit.error());
  if (exit.ok() && (exit->signalled || exit->code != 0))
    done = Error{ErrorKind::unavailable,
                 fmt::format("runc checkpoint ended with {}: {}", exit->text(),
                             reason_in(work, "dump.log", runc_reason(read_available(output.ours.get()))))};
  if (done.ok()) done = check_whole(directory);
  if (done.ok()) done = open_to_sandboxes(directory);
  if (!done.ok()) {
    sandbox.hold();
    return done;
  }
  if (!wait_ended(sandbox.pidfd(), kEndTimeout)) sandbox.kill();
  return {};
}

base::Result<std::unique_ptr<Sandbox>> RuncMaker::restore(const SandboxContents& contents, const std::string& directory,
                                                          base::Duration timeout) {
  if (!criu_.ok()) return criu_.error();
  THAW_ASSIGN_OR_RETURN(const Place place, take_place());
  auto restored = restore_at(place, contents, directory, timeout);
  if (!restored.ok()) return given_up(place, restored.error());
  std::unique_ptr<Sandbox> sandbox = std::move(restored).value();  // goes, with the place, when it does not pass
  THAW_RETURN_IF_ERROR(check_confined(place.cgroup.pids(), sandbox->init_pid(), place.uid_base + kInsideUid));
  THAW_RETURN_IF_ERROR(bring_loopback_up(sandbox->init_pid()));
  sandbox->hold();
  return sandbox;
}

base::Result<std::unique_ptr<Sandbox>> RuncMaker::restore_at(const Place& place, const SandboxContents& contents,
                                                             const std::string& directory, base::Duration timeout) {
  THAW_RETURN_IF_ERROR(make_directories(place.directory, 0755));  // on the way to the stage
  THAW_ASSIGN_OR_RETURN(DeviceGrant devices, prepare(place, contents));
  const std::string work = place.directory + "/criu";
  THAW_RETURN_IF_ERROR(make_directories(work, 0700));
  // Its run directory, a mount below the home, is shown; so none there is hidden.
  Stage stage{place.directory + "/stage", {}, false, place.directory + "/stage"};
  THAW_RETURN_IF_ERROR(make_directories(stage.directory, 0755));
  THAW_ASSIGN_OR_RETURN(Bundle bundle, bundle_of(place, contents, std::move(devices)));
  put_on_stage(bundle, stage);
  THAW_RETURN_IF_ERROR(write_bundle(bundle));

  THAW_ASSIGN_OR_RETURN(const std::string userns, userns_file(directory));
  THAW_ASSIGN_OR_RETURN(const std::string then, read_small_file(directory + "/" + userns));
  THAW_ASSIGN_OR_RETURN(const std::string mapping, with_uid_base(then, place.uid_base));
  THAW_RETURN_IF_ERROR(write_file(place.directory + "/userns.img", mapping, kInsideImage));
  stage.exposures.push_back({directory, "/image"});
  const std::string image = staged(stage, "/image");

  std::unique_ptr<Sandbox> sandbox;
  NamespaceThread thread;
  const auto restored = thread.run([&]() -> base::Status {
    if (const auto set = set_stage(stage); !set.ok()) return set.error();
    THAW_RETURN_IF_ERROR(attach_mounts({{place.directory + "/userns.img", image + "/" + userns}}));
    THAW_ASSIGN_OR_RETURN(sandbox, launch(place, command({"restore", "--image-path", image, "--work-path", work}), Fd(),
                                          -1, true, timeout));
    return {};
  });
  if (!restored.ok()) {
    const bool late = restored.error().kind == ErrorKind::timeout;
    return Error{late ? ErrorKind::timeout : ErrorKind::internal,
                 reason_in(work, "restore.log", restored.error().message)};
  }
  return sandbox;
}

}  // namespace thaw::node
