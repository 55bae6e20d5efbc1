#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "node/sandbox/cgroup_host.h"
#include "node/sandbox/uid_slots.h"

namespace thaw::node {

/// Where the node keeps its sandboxes, and under which label; shared by all their makers.
struct SandboxHome {
  std::string directory;      ///< /run/thaw/<label>: short, because a socket's path has 107 bytes; gone after a reboot,
                              ///< like the sandboxes
  std::string label;          ///< of the data directory; names control groups and runtime state
  std::string init_path;      ///< the thaw-init binary
  std::string lazy_map_path;  ///< libthaw_lazy_map.so; empty: there is none
  std::uint32_t uid_base = 0;
  std::string report_socket = {};  ///< where refused system calls are told (refusals.h); empty: nowhere
  std::shared_ptr<const CgroupHost> cgroups;  ///< null: none can be made (only without sandboxes)
  std::shared_ptr<UidSlots> uid_slots = std::make_shared<UidSlots>();

  [[nodiscard]] std::string rootfs() const { return directory + "/rootfs"; }
  [[nodiscard]] std::string image_skeleton() const { return directory + "/image-skeleton"; }
  [[nodiscard]] std::string boxes() const { return directory + "/boxes"; }
  [[nodiscard]] std::string runtime_root() const { return directory + "/runc"; }
};

}  // namespace thaw::node
