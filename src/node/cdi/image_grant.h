#pragma once

#include "base/result.h"
#include "node/cdi/grant.h"

/// The problem: in a container image's root nothing of the host is seen, so a device's libraries have to be put there:
/// all that a CDI file mounts, and the names under which programs ask for them (library_hooks.h), none of which the
/// image may lead elsewhere.
namespace thaw::node {

/// A directory of thaw's in an image's root (image_root.h's skeleton has it, so that no link of the image's is there)
/// with a link for each of the driver's libraries, and nothing else. It is what LD_LIBRARY_PATH leads to: the folders
/// themselves (/usr/lib/x86_64-linux-gnu) hold the image's own libraries, too, which would then go before those that a
/// Python package brings. Not below /thaw, which under gVisor is a mount.
inline constexpr const char* kInsideDriver = "/thaw-driver";

/// grant_of() for a container image's root: nothing is left out, and hooks are turned into links: those of
/// create-symlinks, and for each mounted library the name that it gives itself, beside it and in kInsideDriver. Links
/// below /dev and in directories in or below which nothing is mounted are left out
/// (/dev/dri/by-path, which is for screens); where a mount is goes before a link, and a hook's link before a library's
/// name. Errors: as grant_of() and read_library_hooks().
base::Result<DeviceGrant> image_grant_of(const CdiEdits& edits);

}  // namespace thaw::node
