#include "node/sandbox/freezer.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "node/sandbox/clock.h"
#include "node/sandbox/fd.h"
#include "node/sandbox/files.h"

namespace thaw::node {
namespace {

constexpr const char* kV2Switch = "/cgroup.freeze";
constexpr const char* kV2Events = "/cgroup.events";
constexpr const char* kV1State = "/freezer.state";

constexpr auto kV1Poll = base::Millis(1);
constexpr auto kTurn = base::Millis(
    50);  // of waiting; then somebody may have asked to stop, and a stuck v1 group is thawed and frozen again

std::string v2_mount(const CgroupHost& host) {
  for (const CgroupHost::Hierarchy& hierarchy : host.hierarchies())
    if (hierarchy.v2) return hierarchy.mount;
  return {};
}

std::string v1_mount(const CgroupHost& host) {
  for (const CgroupHost::Hierarchy& hierarchy : host.hierarchies())
    if (std::find(hierarchy.controllers.begin(), hierarchy.controllers.end(), "freezer") != hierarchy.controllers.end())
      return hierarchy.mount;
  return {};
}

bool has(const std::string& file) {
  return ::access(file.c_str(), F_OK) == 0;
}

base::Status move_to(const std::string& directory, const char* needed, pid_t pid) {
  THAW_RETURN_IF_ERROR(make_directories(directory, 0755));
  if (!has(directory + needed))
    return base::Error{base::ErrorKind::unavailable, "the kernel has no " + directory + needed};
  return write_control_file(directory + "/cgroup.procs", std::to_string(pid));
}

base::Error no_freezer() {
  return {base::ErrorKind::unavailable,
          "cannot freeze processes: this host has neither cgroup v2 (Linux 5.2) nor the v1 freezer; "
          "mount cgroup v2, at /sys/fs/cgroup/unified beside v1"};
}

}  // namespace

Freezer::Kind Freezer::find(const CgroupHost& host, const std::string& label) {
  const std::string path = host.parent_path(label) + "/freezer-probe";
  const auto offers = [&](const std::string& mount, const char* needed) {
    if (mount.empty() || !make_directories(mount + path, 0755).ok()) return false;
    const bool offered = has(mount + path + needed);
    ::rmdir((mount + path).c_str());
    return offered;
  };
  if (offers(v2_mount(host), kV2Switch)) return Kind::v2;
  return offers(v1_mount(host), kV1State) ? Kind::v1 : Kind::none;
}

Freezer Freezer::of(const CgroupHost& host, const std::string& path) {
  if (const std::string mount = v2_mount(host); !mount.empty() && has(mount + path + kV2Switch))
    return {Kind::v2, mount + path};
  if (const std::string mount = v1_mount(host); !mount.empty() && has(mount + path + kV1State))
    return {Kind::v1, mount + path};
  return {Kind::none, {}};
}

base::Status Freezer::join(const CgroupHost& host, const std::string& path, pid_t pid) {
  base::Status status = no_freezer();
  if (const std::string mount = v2_mount(host); !mount.empty()) status = move_to(mount + path, kV2Switch, pid);
  if (status.ok()) return status;
  if (const std::string mount = v1_mount(host); !mount.empty()) status = move_to(mount + path, kV1State, pid);
  return status;
}

base::Status Freezer::ask(bool freeze) const {
  if (kind_ == Kind::none) return no_freezer();
  if (kind_ == Kind::v2) return write_control_file(directory_ + kV2Switch, freeze ? "1" : "0");
  return write_control_file(directory_ + kV1State, freeze ? "FROZEN" : "THAWED");
}

base::Result<bool> Freezer::frozen() const {
  if (kind_ == Kind::none) return false;
  THAW_ASSIGN_OR_RETURN(const std::string text,
                        read_small_file(directory_ + (kind_ == Kind::v2 ? kV2Events : kV1State)));
  return kind_ == Kind::v2 ? text.find("frozen 1") != std::string::npos : text.starts_with("FROZEN");
}

base::Result<bool> Freezer::await(bool wanted, base::Duration patience) const {
  const base::TimePoint until = now() + patience;
  // The kernel announces changes of cgroup.events (POLLPRI); of freezer.state it does not.
  const Fd events(kind_ == Kind::v2 ? ::open((directory_ + kV2Events).c_str(), O_RDONLY | O_CLOEXEC) : -1);
  for (;;) {
    if (events) {  // what is read from here on is announced if it changes after
      char ignored[64];
      [[maybe_unused]] const ssize_t got = ::pread(events.get(), ignored, sizeof ignored, 0);
    }
    THAW_ASSIGN_OR_RETURN(const bool is, frozen());
    if (is == wanted) return true;
    if (now() >= until) return false;
    if (events) {
      struct pollfd change {
        .fd = events.get(), .events = POLLPRI, .revents = 0
      };
      ::poll(&change, 1, poll_ms(until, static_cast<int>(base::Millis(kTurn).count())));
    } else {
      std::this_thread::sleep_for(kV1Poll);
    }
  }
}

base::Status Freezer::freeze(base::TimePoint deadline, const std::stop_token& stop) const {
  base::Status status = ask(true);
  while (status.ok()) {
    const auto is = await(true, std::clamp<base::Duration>(deadline - now(), base::Duration::zero(), kTurn));
    if (is.ok() && *is) return {};
    if (!is.ok())
      status = is.error();
    else if (stop.stop_requested())
      status = base::Error{base::ErrorKind::unavailable, "cut short while its processes were being frozen"};
    else if (now() >= deadline)
      status = base::Error{
          base::ErrorKind::timeout,
          "the processes of " + directory_ + " did not stand still by the deadline (one is stuck in the kernel)"};
    else if (kind_ == Kind::v1) {
      status = ask(false);
      if (status.ok()) status = ask(true);
    }
  }
  if (kind_ != Kind::none) (void)ask(false);
  return status;
}

base::Status Freezer::thaw(base::TimePoint deadline) const {
  THAW_RETURN_IF_ERROR(ask(false));
  THAW_ASSIGN_OR_RETURN(const bool runs, await(false, std::max<base::Duration>(deadline - now(), kTurn)));
  if (runs) return {};
  return base::Error{base::ErrorKind::timeout, "the processes of " + directory_ + " do not run again"};
}

}  // namespace thaw::node
