#pragma once

#include <sys/types.h>

#include <stop_token>
#include <string>

#include "base/result.h"
#include "base/time.h"
#include "node/sandbox/cgroup_host.h"

namespace thaw::node {

/// Stops every process of one control group where it stands, and lets them go on. The kernel has two ways, and the
/// second is worse:
///
///     v2 (Linux 5.2), also where the v2 tree has no     cgroup.freeze, cgroup.events    a frozen process can be
///     killed; with its controllers because those are in v1 trees                                         parent gone
///     it dies like any other v1                                                freezer.state                   a
///     frozen process can not: it takes the
///                                                                                       signal when it is thawed
///
/// A v1 group may also get stuck in FREEZING when its processes fork meanwhile; the remedy (of runc, too) is to thaw it
/// and freeze it again. A value: it names the group and does not own it. Any thread; but one caller at a time for one
/// group.
class Freezer {
 public:
  enum class Kind { none, v1, v2 };

  /// What kind join() would find for groups below this label's parent; makes an empty group there and removes it.
  static Kind find(const CgroupHost& host, const std::string& label);

  /// The freezer of the group at `path` (in every hierarchy). none: join() was not called, or this host has no freezer.
  static Freezer of(const CgroupHost& host, const std::string& path);

  /// Makes the group where its processes can be frozen, v2 where there is a tree of it, and moves `pid` there; its
  /// children will follow. Does nothing where `pid` is in such a group already.
  static base::Status join(const CgroupHost& host, const std::string& path, pid_t pid);

  [[nodiscard]] Kind kind() const { return kind_; }

  /// Returns when every process stands still. On failure (timeout; unavailable when `stop` was requested) all run
  /// again.
  [[nodiscard]] base::Status freeze(base::TimePoint deadline, const std::stop_token& stop) const;
  /// Returns when every process runs. Not to be cut short: microseconds, unless the machine is swamped.
  [[nodiscard]] base::Status thaw(base::TimePoint deadline) const;
  [[nodiscard]] base::Result<bool> frozen() const;

 private:
  Freezer(Kind kind, std::string directory) : kind_(kind), directory_(std::move(directory)) {}
  [[nodiscard]] base::Status ask(bool freeze) const;
  /// Waits until the state is as wanted, up to `patience`.
  [[nodiscard]] base::Result<bool> await(bool frozen, base::Duration patience) const;

  Kind kind_ = Kind::none;
  std::string directory_;
};

}  // namespace thaw::node
