#include "node/host_access.h"

#include <linux/capability.h>
#include <sys/file.h>
#include <sys/prctl.h>

#include <cerrno>
#include <cstdlib>
#include <sstream>

#include <fmt/format.h>

#include "node/sandbox/files.h"

namespace thaw::node {
namespace {

base::Result<std::uint64_t> effective_capabilities() {
  THAW_ASSIGN_OR_RETURN(const std::string status, read_small_file("/proc/self/status"));
  std::istringstream lines(status);
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("CapEff:")) return static_cast<std::uint64_t>(std::strtoull(line.c_str() + 7, nullptr, 16));
  return base::Error{base::ErrorKind::internal, "cannot read this process's capabilities from /proc/self/status"};
}

}  // namespace

const std::vector<NeededCapability>& needed_capabilities() {
  // Tried one by one with runc 1.1.5: without any of these no sandbox starts; with these alone all tests pass. CAP_KILL is not among them: who
  // created a user namespace has every capability over it.
  static const std::vector<NeededCapability> kNeeded{
      {"CAP_SYS_ADMIN", CAP_SYS_ADMIN, "namespaces, mounts, control groups"},
      {"CAP_SETUID", CAP_SETUID, "mapping a sandbox's uids"},
      {"CAP_SETGID", CAP_SETGID, "mapping a sandbox's gids"},
      {"CAP_CHOWN", CAP_CHOWN, "giving the socket's directory to the engine's uid"},
      {"CAP_DAC_OVERRIDE", CAP_DAC_OVERRIDE, "reaching engines' sockets and models, making control groups"},
      {"CAP_SYS_CHROOT", CAP_SYS_CHROOT, "entering a sandbox's mount namespace"},
      {"CAP_SYS_PTRACE", CAP_SYS_PTRACE, "setting up a sandbox's processes"},
  };
  return kNeeded;
}

base::Status check_privileges() {
  THAW_ASSIGN_OR_RETURN(const std::uint64_t held, effective_capabilities());
  std::string missing;
  std::string all;
  for (const NeededCapability& needed : needed_capabilities()) {
    all += std::string(all.empty() ? "" : ", ") + needed.name;
    if ((held >> needed.number & 1U) == 0) missing += fmt::format("{}{} ({})", missing.empty() ? "" : ", ", needed.name, needed.purpose);
  }
  if (::geteuid() == 0 && missing.empty()) return {};
  const std::string what = ::geteuid() != 0 ? fmt::format("this process runs as uid {}, not as root", ::geteuid()) : "missing " + missing;
  return base::Error{base::ErrorKind::denied,
                     fmt::format("cannot make sandboxes: {}; run thaw as root (these capabilities suffice: {}), or start with --sandbox=none for "
                                 "development",
                                 what, all)};
}

base::Status check_network_privileges() {
  THAW_ASSIGN_OR_RETURN(const std::uint64_t held, effective_capabilities());
  std::string missing;
  for (const auto& [name, number] : {std::pair{"CAP_NET_ADMIN", CAP_NET_ADMIN}, std::pair{"CAP_NET_RAW", CAP_NET_RAW}})
    if ((held >> number & 1U) == 0) missing += std::string(missing.empty() ? "" : ", ") + name;
  if (missing.empty()) return {};
  return base::Error{base::ErrorKind::denied, "cannot make gVisor sandboxes: missing " + missing + "; give thaw these capabilities, or choose the "
                                              "sandbox runc"};
}

base::Result<Fd> lock_data_dir(const std::string& data_dir) {
  const std::string path = data_dir + "/node.lock";
  Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd) return base::errno_error("cannot open " + path, errno);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return base::errno_error("cannot lock " + path, errno);
    auto holder = read_small_file(path);
    return base::Error{base::ErrorKind::conflict,
                       fmt::format("cannot use the data directory {}: another thaw server (pid {}) uses it; stop that one or choose another --data-dir",
                                   data_dir, holder.ok() && !holder->empty() ? *holder : "unknown")};
  }
  THAW_RETURN_IF_ERROR(write_control_file(path, std::to_string(::getpid())));
  return fd;
}

base::Status adopt_orphans() {
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1UL, 0UL, 0UL, 0UL) != 0)
    return base::errno_error("cannot become the parent of orphaned processes (PR_SET_CHILD_SUBREAPER)", errno);
  return {};
}

}  // namespace thaw::node
