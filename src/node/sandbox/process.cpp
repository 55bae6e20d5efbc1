#include "node/sandbox/process.h"

#include <poll.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include <fmt/format.h>

#include "node/sandbox/clock.h"

namespace thaw::node {
namespace {

constexpr int kMaxPoll_ms = 60'000;
constexpr auto kKillWait = base::Seconds(2);  // SIGKILL to exit of a helper that is not stuck in the kernel
constexpr int kMaxGroupZombies = 64;
constexpr int kFeed = 3;

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> out;
  for (const std::string& text : strings) out.push_back(const_cast<char*>(text.c_str()));
  out.push_back(nullptr);
  return out;
}

/// posix_spawn's two option objects, freed together.
struct SpawnAttributes {
  posix_spawn_file_actions_t actions{};
  posix_spawnattr_t attributes{};
  SpawnAttributes() {
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
  }
  ~SpawnAttributes() {
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
  }
  SpawnAttributes(const SpawnAttributes&) = delete;
  SpawnAttributes& operator=(const SpawnAttributes&) = delete;

  void redirect(int from, int to) {
    if (from >= 0)
      posix_spawn_file_actions_adddup2(&actions, from, to);
    else
      posix_spawn_file_actions_addopen(&actions, to, "/dev/null", to == STDIN_FILENO ? O_RDONLY : O_WRONLY, 0);
  }
};

/// A helper's own children that it left unreaped came to us (we are the subreaper).
void reap_group(pid_t group) {
  for (int i = 0; i < kMaxGroupZombies; ++i) {
    siginfo_t info{};
    if (::waitid(P_PGID, static_cast<id_t>(group), &info, WEXITED | WNOHANG) != 0 || info.si_pid == 0) return;
  }
}

base::Result<Exit> wait_for_exit(int pidfd, int flags) {
  siginfo_t info{};
  if (::waitid(P_PIDFD, static_cast<id_t>(pidfd), &info, flags) != 0) {
    if (errno == ECHILD) return base::Error{base::ErrorKind::not_found, "cannot reap a process: already reaped"};
    return base::errno_error("cannot reap a process", errno);
  }
  if (info.si_pid == 0) return base::Error{base::ErrorKind::unavailable, "cannot reap a process: it is running"};
  return Exit{info.si_code != CLD_EXITED, info.si_status};
}

}  // namespace

base::Result<pid_t> spawn(const SpawnOptions& options) {
  SpawnAttributes spawn_options;
  spawn_options.redirect(options.stdin_fd, STDIN_FILENO);
  spawn_options.redirect(options.output_fd, STDOUT_FILENO);
  spawn_options.redirect(options.error_fd >= 0 ? options.error_fd : options.output_fd, STDERR_FILENO);
  if (options.feed_fd >= 0) spawn_options.redirect(options.feed_fd, kFeed);
  if (!options.directory.empty()) posix_spawn_file_actions_addchdir_np(&spawn_options.actions, options.directory.c_str());

  sigset_t none;
  sigset_t all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&spawn_options.attributes, &none);
  posix_spawnattr_setsigdefault(&spawn_options.attributes, &all);
  posix_spawnattr_setflags(&spawn_options.attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);

  pid_t pid = 0;
  const int error_number = posix_spawnp(&pid, options.argv.at(0).c_str(), &spawn_options.actions, &spawn_options.attributes,
                                        pointers(options.argv).data(), pointers(options.env).data());
  if (error_number != 0) return base::errno_error("cannot run " + options.argv[0], error_number);
  return pid;
}

std::string Exit::text() const {
  return signalled ? fmt::format("signal {} ({})", code, ::strsignal(code)) : fmt::format("exit status {}", code);
}

base::Result<Fd> open_pidfd(pid_t pid) {
  // By number: glibc 2.36 declares its wrappers without extern "C".
  Fd fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0U)));
  if (!fd) return base::errno_error(fmt::format("cannot watch process {} (pidfd_open)", pid), errno);
  return fd;
}

bool wait_ended(int pidfd, base::Duration timeout) {
  const auto until = now() + timeout;
  for (;;) {
    struct pollfd ended {.fd = pidfd, .events = POLLIN, .revents = 0};
    const int ready = ::poll(&ended, 1, poll_ms(until, kMaxPoll_ms));
    if (ready > 0) return true;
    if (ready == 0 && now() >= until) return false;
    if (ready < 0 && errno != EINTR) return false;
  }
}

base::Result<Exit> peek_exit(int pidfd) { return wait_for_exit(pidfd, WEXITED | WNOHANG | WNOWAIT); }

base::Result<Exit> reap(int pidfd) { return wait_for_exit(pidfd, WEXITED | WNOHANG); }

bool send_signal(int pidfd, int signal) { return ::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0U) == 0; }

base::Result<Exit> run(const SpawnOptions& options, base::Duration timeout) {
  THAW_ASSIGN_OR_RETURN(const pid_t pid, spawn(options));
  THAW_ASSIGN_OR_RETURN(const Fd pidfd, open_pidfd(pid));
  const bool ended = wait_ended(pidfd.get(), timeout);
  if (!ended) {
    ::kill(-pid, SIGKILL);
    wait_ended(pidfd.get(), kKillWait);
  }
  auto exit = reap(pidfd.get());
  reap_group(pid);
  if (!ended)
    return base::Error{base::ErrorKind::timeout,
                       fmt::format("cannot run {}: not done after {:.0f} s; killed", options.argv[0], base::to_s(timeout))};
  return exit;
}

}  // namespace thaw::node
