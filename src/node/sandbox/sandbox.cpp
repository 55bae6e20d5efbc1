#include "node/sandbox/sandbox.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <thread>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "base/endpoint.h"
#include "node/sandbox/bundle.h"
#include "node/sandbox/clock.h"
#include "node/sandbox/contents.h"
#include "node/sandbox/files.h"
#include "node/sandbox/init_message.h"
#include "node/sandbox/search_path.h"

namespace thaw::node {
namespace {

constexpr auto kKillTimeout = base::Seconds(10);    // SIGKILL to exit; longer means stuck in a driver
constexpr int kShellSignal = 128;
constexpr auto kSignalPoll = base::Millis(1);
constexpr const char* kOwnNetwork = "/proc/self/ns/net";
constexpr auto kCgroupTimeout = base::Seconds(5);   // exit to an empty control group

base::Status send_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t sent = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return base::errno_error("cannot reach the sandbox's first process", errno);
    text.remove_prefix(static_cast<std::size_t>(sent));
  }
  return {};
}

/// Into a pipe that has room for all of it.
base::Status write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t wrote = ::write(fd, text.data(), text.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return base::errno_error("cannot reach the program that waits in the sandbox", errno);
    text.remove_prefix(static_cast<std::size_t>(wrote));
  }
  return {};
}

/// Sent and not taken yet.
bool signal_pending(pid_t pid, int number) {
  const auto status = read_small_file(fmt::format("/proc/{}/status", pid));
  const std::size_t at = status.ok() ? status->find("\nShdPnd:\t") : std::string::npos;
  if (at == std::string::npos) return false;
  return (std::strtoull(status->c_str() + at + std::strlen("\nShdPnd:\t"), nullptr, 16) >> (number - 1) & 1U) != 0;
}

}  // namespace

Sandbox::~Sandbox() {
  if (auto status = destroy(); !status.ok()) spdlog::error("sandbox {} is not gone: {}", parts_.name, status.error().message);
}

base::Status Sandbox::limit(const CgroupLimits& limits) { return parts_.cgroup ? parts_.cgroup->limit(limits) : base::Status(); }

base::Status Sandbox::expose(const SandboxContents& contents) {
  if (parts_.contents_fixed) return {};
  if (parts_.exposer) return parts_.exposer(contents);
  THAW_RETURN_IF_ERROR(make_placeholders(parts_.directory, contents));
  THAW_ASSIGN_OR_RETURN(const std::vector<Exposure> exposures, lay_out(parts_.directory, parts_.engine_uid, contents));
  return inject_mounts(parts_.pid, exposures);
}

base::Status Sandbox::listen_on_tcp(const std::string& ipv4, std::uint16_t port) {
  const auto known = base::parse_endpoint(parts_.socket_path);
  if (known.ok() && known->unix_path.empty()) return {};
  base::Endpoint endpoint{"", ipv4, port, kOwnNetwork};
  if (parts_.own_network) {
    // Like the door of a gVisor sandbox (network.h): a name for the namespace that will never be another's, as /proc/PID may be.
    endpoint.namespace_path = parts_.directory + "/door";
    const std::string network = fmt::format("/proc/{}/ns/net", parts_.pid);
    THAW_RETURN_IF_ERROR(write_file(endpoint.namespace_path, "", 0400));
    if (::mount(network.c_str(), endpoint.namespace_path.c_str(), nullptr, MS_BIND, nullptr) != 0)
      return base::errno_error("cannot mount a network namespace at " + endpoint.namespace_path, errno);
    parts_.clean_up = [door = endpoint.namespace_path, rest = std::move(parts_.clean_up)]() -> base::Status {
      if (rest) THAW_RETURN_IF_ERROR(rest());
      if (::umount2(door.c_str(), MNT_DETACH) == 0 || errno == EINVAL || errno == ENOENT) return {};
      return base::errno_error("cannot unmount " + door, errno);
    };
  }
  parts_.socket_path = base::to_string(endpoint);
  return {};
}

base::Status Sandbox::run(const std::vector<std::string>& argv, const std::map<std::string, std::string>& env) {
  if (feed_) {
    THAW_ASSIGN_OR_RETURN(const std::string message, init_message(argv, env));
    const Fd feed = std::move(feed_);  // its end of file says that there is no more
    return write_all(feed.get(), message);
  }
  std::vector<std::string> command = argv;
  std::map<std::string, std::string> environment = env;
  if (parts_.launcher) {
    THAW_ASSIGN_OR_RETURN(command, parts_.launcher(argv, env));
    environment = {{"PATH", search_path_variable().substr(std::string_view("PATH=").size())}};
  }
  THAW_ASSIGN_OR_RETURN(const std::string message, init_message(command, environment));
  // A process that is not reading any more must not hold up a start for ever: the socket's buffer takes what thaw-init takes.
  return send_all(parts_.control.get(), message);
}

pid_t Sandbox::engine_pid() const {
  if (const pid_t known = engine_pid_; known != 0) return known;
  // Orphans of the engine become thaw-init's children too, but its first child was the engine.
  auto children = read_small_file(fmt::format("/proc/{0}/task/{0}/children", parts_.pid));
  if (!children.ok() || children->empty()) return parts_.pid;
  const auto first = static_cast<pid_t>(std::strtol(children->c_str(), nullptr, 10));
  if (first > 0) engine_pid_ = first;
  return first > 0 ? first : parts_.pid;
}

base::Status Sandbox::let_go(base::Duration timeout) {
  if (ended() || !send_signal(pidfd(), SIGUSR2)) return base::Error{base::ErrorKind::unavailable, "the sandbox's first process has ended"};
  const base::Error late{base::ErrorKind::timeout, "the sandbox's first process did not let go of its socket"};
  if (parts_.let_go) {  // before, and was held again: there is no socket to watch
    for (const base::TimePoint until = now() + timeout; signal_pending(parts_.pid, SIGUSR2);) {
      if (now() >= until) return late;
      std::this_thread::sleep_for(kSignalPoll);
    }
    return {};
  }
  pollfd closed{parts_.control.get(), 0, 0};  // POLLHUP comes unasked
  const int ready = ::poll(&closed, 1, static_cast<int>(duration_cast<std::chrono::milliseconds>(timeout).count()));
  if (ready <= 0) return late;
  parts_.let_go = true;
  return {};
}

Exit Sandbox::ending(Exit init) const {
  const Exit exit = read_ending(parts_.control.get()).value_or(init);
  // A launcher, and a thaw-init without its socket, tell of their engine's signal as shells do.
  if ((parts_.launcher || parts_.let_go) && !exit.signalled && exit.code > kShellSignal) return {true, exit.code - kShellSignal};
  return exit;
}

void Sandbox::kill() const {
  send_signal(pidfd(), SIGKILL);
  if (parts_.cgroup)
    parts_.cgroup->kill_all();
  else
    ::kill(-parts_.pid, SIGKILL);  // its process group; the pid is ours until destroy() reaps it
}

std::uint64_t Sandbox::memory_bytes() const {
  if (parts_.cgroup) return parts_.cgroup->memory_bytes();
  auto statm = read_small_file(fmt::format("/proc/{}/statm", engine_pid()));  // "size resident …" in pages
  if (!statm.ok()) return 0;
  unsigned long long size = 0;
  unsigned long long resident = 0;
  if (std::sscanf(statm->c_str(), "%llu %llu", &size, &resident) != 2) return 0;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

base::Status Sandbox::destroy() {
  if (destroyed_) return {};
  kill();
  if (!wait_ended(pidfd(), kKillTimeout))
    return base::Error{base::ErrorKind::timeout,
                       fmt::format("process {} did not end {:.0f} s after SIGKILL; it is stuck in the kernel", parts_.pid, base::to_s(kKillTimeout))};
  if (auto exit = reap(pidfd()); !exit.ok() && exit.error().kind != base::ErrorKind::not_found) return exit.error();
  if (parts_.cgroup) THAW_RETURN_IF_ERROR(parts_.cgroup->remove(kCgroupTimeout));
  if (parts_.clean_up) THAW_RETURN_IF_ERROR(parts_.clean_up());
  // With the process and its control groups gone, the runtime's own record is a directory of ours; asking runc to delete it costs 25 ms of CPU
  // in the middle of a swap.
  if (!parts_.runtime_state.empty()) THAW_RETURN_IF_ERROR(remove_tree(parts_.runtime_state));
  THAW_RETURN_IF_ERROR(remove_tree(parts_.directory));
  destroyed_ = true;
  parts_.control.reset();
  kept_.clear();
  if (parts_.released) parts_.released();
  return {};
}

}  // namespace thaw::node
