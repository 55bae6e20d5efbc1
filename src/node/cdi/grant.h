#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "node/cdi/library_hooks.h"
#include "node/cdi/registry.h"
#include "node/sandbox/mounts.h"

/// What CDI files say, turned into what a sandbox can be given.
namespace thaw::node {

/// A device file as a sandbox shows it.
struct GrantedNode {
  std::string host_path;
  std::string inside_path;
  bool block = false;
  std::int64_t major = 0;
  std::int64_t minor = 0;
  std::string access = "rw";  ///< of "rwm", for the control group
};

/// All that an instance gets for its device. Everything else in /dev stays closed to it: by absence, and by the control group's list.
struct DeviceGrant {
  std::vector<GrantedNode> nodes;
  std::vector<Exposure> mounts;
  std::map<std::string, std::string> env;  ///< goes before the engine's and the model's own
  std::vector<CdiHook> hooks;              ///< run by the OCI runtime, as root, on the host; none with a container image
  std::vector<GrantedLink> links = {};           ///< with a container image only: to be made in its root
  std::vector<std::string> library_dirs = {};    ///< with a container image only: inside, for LD_LIBRARY_PATH, the first goes first
  [[nodiscard]] bool empty() const { return nodes.empty() && mounts.empty() && env.empty() && hooks.empty(); }
};

/// True for what makes the sandbox one (/proc, /sys, /dev, /thaw) and all below: nothing is mounted or linked there.
bool is_sandbox_own(const std::string& inside_path);

/// The device file at `path` of the host, to be shown at the same place; an error when there is none.
base::Result<GrantedNode> device_node(const std::string& path);

/// The edits in the order in which they stand: of two device nodes or mounts at one place, and two values of a variable, the later holds. Refused
/// are mounts over what makes the sandbox one (/, /proc, /sys, /dev, /thaw and below), and of other kinds than bind. Left out, since the sandbox's
/// /usr and loader cache are the host's own: mounts of a path of the host's at the same place within them, and NVIDIA's hooks that put such
/// libraries in order in a foreign root. Additional groups cannot be had in a user namespace: an error with the remedy.
/// Looks at the device files for what the edits leave open. `shown`: directories of the host that sandboxes see in any case (host_view()).
base::Result<DeviceGrant> grant_of(const CdiEdits& edits, const std::vector<std::string>& shown);

/// Makes in the root of the sandboxes the mount points that the grant's mounts need.
base::Status make_grant_mount_points(const std::string& rootfs, const DeviceGrant& grant, const std::vector<std::string>& shown);

}  // namespace thaw::node
