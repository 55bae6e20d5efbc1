#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

/// The problem: what was measured of a disk must be found again for that disk and for no other, though names like sda
/// change between boots, partitions share a disk, and some paths lie on no disk at all.
namespace thaw::node {

/// What a path lies on.
struct Disk {
  std::string id;           ///< the same in every life of the disk, another for every other one
  std::string name;         ///< "nvme0n1", "vda", "md0"; without a block device the file system's: "nfs4", "overlay"
  std::string kind;         ///< "NVMe", "virtio", "SSD", "hard disk", "RAID", "device mapper", "loop", "disk"; or
                            ///< "network", "overlay", "memory", "FUSE", "other"
  std::string model;        ///< as its maker calls it, or a loop device's file; empty when nobody says
  std::string mount_point;  ///< empty when unknown
  std::string file_system;  ///< "ext4"; empty when unknown
};

/// Where the kernel says what there is; tests have their own.
struct DiskSources {
  std::string sysfs = "/sys";
  std::string mountinfo = "/proc/self/mountinfo";
};

/// Blocking for microseconds: small files of the kernel's only. `path` must exist. Errors: not_found, denied, io.
base::Result<Disk> disk_of(const std::string& path, const DiskSources& sources = {});

/// The same for a device number (st_dev) and the resolved path of what lies on it.
Disk disk_of_device(std::uint64_t device, const std::string& real_path, const DiskSources& sources);

}  // namespace thaw::node
