#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "node/sandbox/cgroup_host.h"
#include "node/sandbox/freezer.h"

namespace thaw::node {

/// What one sandbox may use at most. Swap is never allowed: the books count memory.
struct CgroupLimits {
  std::uint64_t memory_bytes = 0;  ///< > 0; page cache that the sandbox brought in counts
  std::uint32_t pids = 0;          ///< > 0; processes and threads
  std::optional<double> cpus = {};  ///< > 0; absent: no limit
  bool background = false;          ///< the least share of the CPU where others want it too
};

/// One control group, the same path in every hierarchy that this host has (one on v2, one a controller on v1).
/// A value: it names the group and does not own it. Any thread.
class Cgroup {
 public:
  Cgroup(std::shared_ptr<const CgroupHost> host, std::string path) : host_(std::move(host)), path_(std::move(path)) {}

  [[nodiscard]] const std::string& path() const { return path_; }

  /// Makes the group where runc does not (memory, cpu and pids controllers only).
  [[nodiscard]] base::Status create() const;
  [[nodiscard]] base::Status add(pid_t pid) const;

  /// Sets all three limits, or says which one the kernel refused. Works on groups with processes in them.
  [[nodiscard]] base::Status limit(const CgroupLimits& limits) const;

  /// Its share of the processors beside its siblings. `weight`: v2's cpu.weight, 1 to 10,000, usually 100; v1's cpu.shares in proportion.
  [[nodiscard]] base::Status set_cpu_weight(unsigned weight) const;

  /// Whether anybody else among its siblings who wants a processor goes before it (SCHED_IDLE for a group). Its weight is the usual one once it does
  /// not any more. Where the kernel lacks this (before 5.15) it has the least weight meanwhile.
  [[nodiscard]] base::Status set_cpu_idle(bool idle) const;
  /// Time for which its CPU limit held its threads up, of each processor summed up; 0 when unknown.
  [[nodiscard]] base::Duration cpu_held_up() const;

  [[nodiscard]] base::Duration cpu_time() const;  ///< processor time used in it so far; 0 when unknown
  [[nodiscard]] std::uint64_t memory_bytes() const;  ///< 0 when unknown
  /// Of it, what the kernel cannot take back while the processes live: anonymous and shared memory, and the kernel's own on their behalf. 0 when unknown.
  [[nodiscard]] std::uint64_t held_bytes() const;
  [[nodiscard]] std::uint64_t oom_kills() const;     ///< processes of the group killed by its memory limit
  [[nodiscard]] std::vector<pid_t> pids() const;     ///< of all hierarchies, each once
  [[nodiscard]] bool exists() const;                 ///< in any hierarchy

  /// Makes page cache that is charged to the group leave, also pages that processes map, in this group or another. v2
  /// stops after about `bytes`, v1 takes all that can go. Nothing is swapped. What left is for the caller to count:
  /// less than `bytes` is no error. Errors: not_found on a kernel without the call (v2 before 5.19).
  [[nodiscard]] base::Status reclaim(std::uint64_t bytes) const;

  [[nodiscard]] base::Status join_freezer(pid_t pid) const { return Freezer::join(*host_, path_, pid); }
  [[nodiscard]] Freezer freezer() const { return Freezer::of(*host_, path_); }

  /// SIGKILL to every process in the group, frozen or not.
  void kill_all() const;

  /// Removes the group and those below it, retrying while processes that were killed still leave. Fails with timeout,
  /// naming who is there.
  [[nodiscard]] base::Status remove(base::Duration timeout) const;

 private:
  [[nodiscard]] std::string file(const std::string& controller, const std::string& name) const;
  [[nodiscard]] base::Status limit_v1(const CgroupLimits& limits) const;
  [[nodiscard]] base::Status limit_v2(const CgroupLimits& limits) const;

  std::shared_ptr<const CgroupHost> host_;
  std::string path_;
};

}  // namespace thaw::node
