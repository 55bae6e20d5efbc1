#include "node/sandbox/cgroup.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <set>
#include <sstream>
#include <system_error>
#include <thread>

#include <fmt/format.h>

#include "node/sandbox/clock.h"
#include "node/sandbox/fd.h"
#include "node/sandbox/files.h"

namespace thaw::node {
namespace {

constexpr std::uint64_t kCpuPeriod_us = 100'000;  // the kernel's default
constexpr std::uint64_t kMinCpuQuota_us = 1'000;  // the kernel refuses less
constexpr auto kRemoveRetry = base::Millis(2);
// On v1 trees of their own, where they are there: processor time would be nobody's, and I/O not limited.
constexpr std::array<const char*, 2> kOptionalV1{"cpuacct", "blkio"};
// What a new group has: cpu.shares on v1, cpu.weight on v2.
constexpr unsigned kUsualShares = 1024;
constexpr unsigned kUsualWeight = 100;

std::uint64_t quota_us(double cpus) {
  return std::max(kMinCpuQuota_us, static_cast<std::uint64_t>(std::llround(cpus * static_cast<double>(kCpuPeriod_us))));
}

std::uint64_t to_number(std::string_view text) {
  std::uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

/// "oom_kill 3" -> 3, from a file of "name value" lines.
std::uint64_t field(const std::string& path, std::string_view name) {
  auto text = read_small_file(path);
  if (!text.ok()) return 0;
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with(name) && line.size() > name.size() && line[name.size()] == ' ')
      return to_number(line.substr(name.size() + 1));
  return 0;
}

std::uint64_t fields(const std::string& path, std::initializer_list<std::string_view> names) {
  std::uint64_t sum = 0;
  for (const std::string_view name : names) sum += field(path, name);
  return sum;
}

/// Deepest first: a group can be removed only when it has none below.
base::Status remove_groups(const std::string& directory) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error))
    if (entry.is_directory(error) && !entry.is_symlink(error)) THAW_RETURN_IF_ERROR(remove_groups(entry.path()));
  if (::rmdir(directory.c_str()) == 0 || errno == ENOENT) return {};
  return base::errno_error("cannot remove control group " + directory, errno);
}

void collect_pids(const std::string& directory, std::set<pid_t>& pids) {
  if (auto text = read_small_file(directory + "/cgroup.procs"); text.ok()) {
    std::istringstream lines(*text);
    for (pid_t pid = 0; lines >> pid;)
      if (pid > 0) pids.insert(pid);  // 0: a process of an outer pid namespace
  }
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error))
    if (entry.is_directory(error) && !entry.is_symlink(error)) collect_pids(entry.path(), pids);
}

}  // namespace

std::string Cgroup::file(const std::string& controller, const std::string& name) const {
  return host_->mount_of(controller) + path_ + "/" + name;
}

base::Status Cgroup::create() const {
  for (const char* controller : {"memory", "cpu", "pids"})
    THAW_RETURN_IF_ERROR(make_directories(host_->mount_of(controller) + path_, 0755));
  if (host_->unified()) return {};
  for (const char* controller : kOptionalV1)
    if (const std::string mount = host_->mount_of(controller); !mount.empty()) THAW_RETURN_IF_ERROR(make_directories(mount + path_, 0755));
  return {};
}

base::Status Cgroup::add(pid_t pid) const {
  for (const char* controller : {"memory", "cpu", "pids"}) {
    THAW_RETURN_IF_ERROR(write_control_file(file(controller, "cgroup.procs"), std::to_string(pid)));
    if (host_->unified()) return {};
  }
  for (const char* controller : kOptionalV1)
    if (!host_->mount_of(controller).empty()) THAW_RETURN_IF_ERROR(write_control_file(file(controller, "cgroup.procs"), std::to_string(pid)));
  return {};
}

base::Status Cgroup::limit(const CgroupLimits& limits) const {
  return host_->unified() ? limit_v2(limits) : limit_v1(limits);
}

base::Status Cgroup::limit_v1(const CgroupLimits& limits) const {
  const std::string memory = std::to_string(limits.memory_bytes);
  const std::string with_swap = file("memory", "memory.memsw.limit_in_bytes");
  // The kernel wants memory <= memory + swap at every moment: raising begins with the sum (which is refused when
  // lowering), lowering ends with it.
  const bool counts_swap = ::access(with_swap.c_str(), F_OK) == 0;
  const bool raised = counts_swap && write_control_file(with_swap, memory).ok();
  THAW_RETURN_IF_ERROR(write_control_file(file("memory", "memory.limit_in_bytes"), memory));
  if (counts_swap && !raised) THAW_RETURN_IF_ERROR(write_control_file(with_swap, memory));
  // Swap accounting is off on this host: at least do not swap by choice.
  if (!counts_swap) THAW_RETURN_IF_ERROR(write_control_file(file("memory", "memory.swappiness"), "0"));

  THAW_RETURN_IF_ERROR(write_control_file(file("pids", "pids.max"), std::to_string(limits.pids)));
  if (limits.background) THAW_RETURN_IF_ERROR(write_control_file(file("cpu", "cpu.shares"), "2"));  // the kernel's least
  if (!limits.cpus) return {};
  THAW_RETURN_IF_ERROR(write_control_file(file("cpu", "cpu.cfs_period_us"), std::to_string(kCpuPeriod_us)));
  return write_control_file(file("cpu", "cpu.cfs_quota_us"), std::to_string(quota_us(*limits.cpus)));
}

base::Status Cgroup::limit_v2(const CgroupLimits& limits) const {
  THAW_RETURN_IF_ERROR(write_control_file(file("memory", "memory.max"), std::to_string(limits.memory_bytes)));
  // Absent on a kernel without swap: then nothing can be swapped either.
  if (const std::string swap = file("memory", "memory.swap.max"); ::access(swap.c_str(), F_OK) == 0)
    THAW_RETURN_IF_ERROR(write_control_file(swap, "0"));
  // One process of the engine gone means the engine is gone: the kernel then takes the whole group, and no half-dead
  // replica is left.
  if (const std::string group = file("memory", "memory.oom.group"); ::access(group.c_str(), F_OK) == 0)
    THAW_RETURN_IF_ERROR(write_control_file(group, "1"));
  THAW_RETURN_IF_ERROR(write_control_file(file("pids", "pids.max"), std::to_string(limits.pids)));
  if (limits.background) THAW_RETURN_IF_ERROR(write_control_file(file("cpu", "cpu.weight"), "1"));
  if (!limits.cpus) return {};
  return write_control_file(file("cpu", "cpu.max"), fmt::format("{} {}", quota_us(*limits.cpus), kCpuPeriod_us));
}

base::Status Cgroup::reclaim(std::uint64_t bytes) const {
  if (!host_->unified()) {
    THAW_RETURN_IF_ERROR(write_control_file(file("memory", "memory.swappiness"), "0"));
    return write_control_file(file("memory", "memory.force_empty"), "0");
  }
  const std::string path = file("memory", "memory.reclaim");
  const Fd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd && errno == ENOENT)
    return base::Error{base::ErrorKind::not_found, path + " does not exist: this takes Linux 5.19"};
  if (!fd) return base::errno_error("cannot open " + path, errno);
  const std::string text = std::to_string(bytes);
  if (::write(fd.get(), text.data(), text.size()) >= 0 || errno == EAGAIN) return {};  // EAGAIN: it found less
  return base::errno_error("cannot reclaim " + text + " bytes with " + path, errno);
}

base::Status Cgroup::set_cpu_weight(unsigned weight) const {
  if (host_->unified()) return write_control_file(file("cpu", "cpu.weight"), std::to_string(weight));
  return write_control_file(file("cpu", "cpu.shares"), std::to_string(std::max(2U, weight * kUsualShares / kUsualWeight)));
}

base::Status Cgroup::set_cpu_idle(bool idle) const {
  const std::string path = file("cpu", "cpu.idle");
  if (::access(path.c_str(), F_OK) == 0) return write_control_file(path, idle ? "1" : "0");
  return set_cpu_weight(idle ? 1 : kUsualWeight);
}

base::Duration Cgroup::cpu_held_up() const {
  const std::string stat = file("cpu", "cpu.stat");
  return host_->unified() ? base::Duration(std::chrono::microseconds(field(stat, "throttled_usec"))) : std::chrono::nanoseconds(field(stat, "throttled_time"));
}

base::Duration Cgroup::cpu_time() const {
  if (host_->unified()) return std::chrono::microseconds(field(file("cpu", "cpu.stat"), "usage_usec"));
  auto text = read_small_file(file("cpuacct", "cpuacct.usage"));
  return text.ok() ? std::chrono::nanoseconds(to_number(*text)) : base::Duration{};
}

std::uint64_t Cgroup::memory_bytes() const {
  auto text = read_small_file(file("memory", host_->unified() ? "memory.current" : "memory.usage_in_bytes"));
  return text.ok() ? to_number(*text) : 0;
}

std::uint64_t Cgroup::held_bytes() const {
  const std::string stat = file("memory", "memory.stat");
  if (!host_->unified())
    return fields(stat, {"total_rss", "total_shmem"}) + to_number(read_small_file(file("memory", "memory.kmem.usage_in_bytes")).value_or(""));
  // "kernel" is the sum of the others since Linux 5.18. Slabs that can be reclaimed are: the group's end is not needed for it.
  const std::uint64_t kernel = field(stat, "kernel");
  const std::uint64_t reclaimable = field(stat, "slab_reclaimable");
  return fields(stat, {"anon", "shmem"}) +
         (kernel > 0 ? kernel - std::min(kernel, reclaimable)
                     : fields(stat, {"kernel_stack", "pagetables", "percpu", "sock", "vmalloc", "slab_unreclaimable"}));
}

std::uint64_t Cgroup::oom_kills() const {
  return field(file("memory", host_->unified() ? "memory.events" : "memory.oom_control"), "oom_kill");
}

std::vector<pid_t> Cgroup::pids() const {
  std::set<pid_t> pids;
  for (const CgroupHost::Hierarchy& hierarchy : host_->hierarchies()) collect_pids(hierarchy.mount + path_, pids);
  return {pids.begin(), pids.end()};
}

bool Cgroup::exists() const {
  for (const CgroupHost::Hierarchy& hierarchy : host_->hierarchies())
    if (::access((hierarchy.mount + path_).c_str(), F_OK) == 0) return true;
  return false;
}

void Cgroup::kill_all() const {
  // cgroup.kill (Linux 5.14) leaves no gap for a process that forks; the loop in remove() covers older kernels and v1.
  if (host_->unified()) {
    const std::string kill_file = file("memory", "cgroup.kill");
    if (::access(kill_file.c_str(), F_OK) == 0 && write_control_file(kill_file, "1").ok()) return;
  }
  for (const pid_t pid : pids()) ::kill(pid, SIGKILL);
  // Only now: not one instruction more for a process that was frozen.
  if (const Freezer own = freezer(); own.kind() == Freezer::Kind::v1) (void)own.thaw(now());
}

base::Status Cgroup::remove(base::Duration timeout) const {
  const auto until = now() + timeout;
  for (;;) {
    base::Status status;
    for (const CgroupHost::Hierarchy& hierarchy : host_->hierarchies())
      if (auto removed = remove_groups(hierarchy.mount + path_); !removed.ok()) status = removed;
    if (status.ok()) return status;
    if (now() >= until)
      return base::Error{base::ErrorKind::timeout,
                         fmt::format("{} (processes left: {})", status.error().message, fmt::join(pids(), " "))};
    kill_all();
    std::this_thread::sleep_for(kRemoveRetry);
  }
}

}  // namespace thaw::node
