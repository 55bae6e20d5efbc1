#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "node/sandbox/cgroup_host.h"

namespace thaw::node {

/// How fast a sandbox may write to a disk. The kernel holds up who writes past it: on v2 also through the page cache,
/// on v1 direct and synchronous writes only (there the kernel writes the page cache out on nobody's account).
struct IoLimit {
  std::string disk;                     ///< "253:0", a whole disk: limits are not for partitions
  std::uint64_t write_bytes_per_s = 0;  ///< > 0
};

/// The disk that a path lies on, as IoLimit names it; nothing where it lies on no single block device (network,
/// overlay, memory, btrfs). `sysfs`: so that a test can show another host.
std::optional<std::string> disk_number_of(const std::string& path, const std::string& sysfs = "/sys");

/// The same for a device number (st_dev).
std::optional<std::string> disk_number_of_device(std::uint64_t device, const std::string& sysfs = "/sys");

/// Holds a group to it, where this host limits block I/O at all (v2's io, v1's blkio); else nothing is done.
base::Status limit_writes(const CgroupHost& host, const std::string& group_path, const IoLimit& limit);

}  // namespace thaw::node
