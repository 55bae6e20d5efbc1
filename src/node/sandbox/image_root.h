#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "node/cdi/grant.h"

namespace thaw::node {

/// The root of an engine that runs in a container image: its layers, and above them what a sandbox needs (the skeleton: mount points, users, hosts).
/// One overlay a sandbox, read-only, nosuid and nodev: the layers are read by many, and their files belong to nobody whom an engine could be.

/// Makes the skeleton: directories, which an image's own links cannot lead elsewhere, and a few files of /etc. Safe to call again.
base::Status make_image_skeleton(const std::string& directory);

/// Mounts skeleton and layers (host directories, the topmost first) at `target`, which exists, in the calling thread's mount namespace.
/// `closed`: nosuid and nodev. Not for gVisor: Debian's release remounts its root without them, which nobody may in a user namespace; layers have neither
/// setuid programs nor device files, and its kernel is its own.
/// Fails with unavailable where the kernel has no overlayfs, or the layers are on one already.
base::Status mount_image_root(const std::vector<std::string>& layers, const std::string& skeleton, const std::string& target, bool closed);
/// The same at <sandbox's directory>/root, which is made, with what a device's grant puts into it: mount points and links, in a layer of their own between the
/// skeleton and the image's (<sandbox's directory>/driver). Where the image has links on the way to them, they lead there within the image (its /lib may be a
/// link to usr/lib), and are refused (invalid) when they lead to what is the sandbox's own. Returns the grant with the places at which its mounts belong; an
/// error may leave the root mounted.
base::Result<DeviceGrant> mount_granted_root(const std::vector<std::string>& layers, const std::string& skeleton, const std::string& sandbox_dir,
                                             DeviceGrant grant, bool closed);

/// Of no effect where nothing is mounted.
base::Status unmount_image_root(const std::string& target);

}  // namespace thaw::node
