#include <fcntl.h>
#include <linux/io_uring.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>

#include <fmt/format.h>

#include "base/units.h"
#include "node/doctor_parts.h"
#include "node/host_access.h"
#include "node/sandbox/cgroup_host.h"
#include "node/sandbox/fd.h"
#include "node/sandbox/files.h"
#include "node/sandbox/mounts.h"

namespace thaw::node {
namespace {

constexpr std::uint64_t kLowDiskBytes = 1ULL << 30;

std::string errno_text(int number) { return std::generic_category().message(number); }

/// "the rest; do Z" of an error that names its remedy after the last semicolon.
Finding from_error(const char* topic, Level level, const base::Error& error, const char* remedy) {
  const std::size_t semicolon = error.message.rfind("; ");
  if (semicolon == std::string::npos) return {topic, level, error.message, remedy};
  return {topic, level, error.message.substr(0, semicolon), error.message.substr(semicolon + 2)};
}

}  // namespace

std::string existing_data_dir(const AgentConfig& config) {
  std::error_code error;
  std::filesystem::path path = std::filesystem::absolute(config.data_dir, error);
  while (!std::filesystem::is_directory(path, error) && path.has_relative_path()) path = path.parent_path();
  return path.string();
}

Finding examine_kernel() {
  utsname name{};
  ::uname(&name);
  const std::string release = fmt::format("Linux {} ({})", name.release, name.machine);
  if (can_inject_mounts()) return {"kernel", Level::ok, release, ""};
  return {"kernel", Level::warning, release + " cannot mount a model into a sandbox made ahead, which costs each cold start some 80 ms",
          "use Linux 5.12 or newer"};
}

Finding examine_privileges(const AgentConfig& config) {
  const base::Status status = check_privileges();
  if (status.ok()) return {"privileges", Level::ok, "root, with every capability that sandboxes need", ""};
  return from_error("privileges", failure_if_sandboxed(config), status.error(), "run thaw as root");
}

Finding examine_user_namespaces(const AgentConfig& config) {
  const char* topic = "user namespaces";
  if (::access("/proc/self/ns/user", F_OK) != 0) {
    return {topic, failure_if_sandboxed(config), "the kernel has none", "use a kernel with CONFIG_USER_NS"};
  }
  const auto limit = read_small_file("/proc/sys/user/max_user_namespaces");
  const std::uint64_t allowed = limit.ok() ? std::strtoull(limit->c_str(), nullptr, 10) : 0;
  if (limit.ok() && allowed == 0) {
    return {topic, failure_if_sandboxed(config), "forbidden (user.max_user_namespaces is 0)", "sysctl -w user.max_user_namespaces=15000"};
  }
  return {topic, Level::ok, limit.ok() ? fmt::format("up to {}", allowed) : "there", ""};
}

Finding examine_cgroups(const AgentConfig& config) {
  const auto host = CgroupHost::detect();
  if (!host.ok()) {
    return from_error("cgroups", failure_if_sandboxed(config), host.error(), "mount the control groups, or boot with systemd.unified_cgroup_hierarchy=1");
  }
  bool has_v2 = false;
  for (const auto& hierarchy : (*host)->hierarchies()) has_v2 = has_v2 || hierarchy.v2;
  const std::string layout = (*host)->unified() ? "v2" : has_v2 ? "v1 (hybrid: a v2 tree without controllers beside it)" : "v1";
  for (const char* controller : {"memory", "cpu", "pids"}) {
    const std::string mount = (*host)->mount_of(controller);
    if (::access(mount.c_str(), W_OK) == 0) continue;
    return {"cgroups", failure_if_sandboxed(config), fmt::format("{}: {} is not writable ({})", layout, mount, errno_text(errno)),
            "run thaw as root; in a container, mount /sys/fs/cgroup read-write"};
  }
  return {"cgroups", Level::ok, layout + ": memory, cpu and pids can be limited", ""};
}

Finding examine_seccomp(const AgentConfig& config) {
  const auto actions = read_small_file("/proc/sys/kernel/seccomp/actions_avail");
  if (actions.ok()) return {"seccomp", Level::ok, "system calls of engines are filtered", ""};
  return {"seccomp", failure_if_sandboxed(config), "the kernel has no filter for system calls", "use a kernel with CONFIG_SECCOMP_FILTER"};
}

Finding examine_io_uring() {
  io_uring_params parameters{};
  const Fd ring(static_cast<int>(::syscall(SYS_io_uring_setup, 1U, &parameters)));
  if (ring) return {"io_uring", Level::ok, "works", ""};
  switch (errno) {
    case ENOSYS: return {"io_uring", Level::note, "the kernel has none: weights are read by threads", "use a kernel with CONFIG_IO_URING"};
    case EPERM: return {"io_uring", Level::note, "forbidden: weights are read by threads",
                        "sysctl -w kernel.io_uring_disabled=0; in a container, allow io_uring in its seccomp profile"};
    default: return {"io_uring", Level::note, errno_text(errno) + ": weights are read by threads", "raise the limit on locked memory (ulimit -l)"};
  }
}

Finding examine_direct_io(const AgentConfig& config) {
  const std::string directory = existing_data_dir(config);
  const Fd file(::open(directory.c_str(), O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600));
  if (file) return {"direct I/O", Level::ok, "works in " + directory, ""};
  if (errno == EACCES || errno == EPERM || errno == EROFS) {
    return {"direct I/O", Level::note, fmt::format("cannot be tried in {}: {}", directory, errno_text(errno)), "run thaw doctor as root"};
  }
  return {"direct I/O", Level::note, fmt::format("not in {}: {}", directory, errno_text(errno)), "keep models and data on ext4 or XFS"};
}

Finding examine_disk(const AgentConfig& config) {
  const std::string directory = existing_data_dir(config);
  struct statvfs status {};
  if (::statvfs(directory.c_str(), &status) != 0) {
    return {"disk", Level::warning, fmt::format("cannot look at {}: {}", directory, errno_text(errno)), "choose another --data-dir"};
  }
  const std::uint64_t free_bytes = std::uint64_t{status.f_bavail} * status.f_frsize;
  const std::string text = fmt::format("{} free in {}", base::format_bytes(free_bytes), directory);
  if (free_bytes >= kLowDiskBytes) return {"disk", Level::ok, text, ""};
  return {"disk", Level::warning, text, "free some space, or choose another --data-dir"};
}

}  // namespace thaw::node
