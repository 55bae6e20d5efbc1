#pragma once

#include <string>

#include "base/result.h"
#include "node/cdi/grant.h"

namespace thaw::node {

/// Where a path leads in an image's root, mounted or unpacked at `root`, following the image's links within it (as
/// chroot would): the path with no link in it, of which what is not there is taken as it is written. The last component
/// is not looked at. Nobody may write in `root` meanwhile. Fails with invalid for a path through a file, and through
/// more than 40 links.
base::Result<std::string> place_in_root(const std::string& root, const std::string& path);

/// Makes in `layer`, an empty directory that is going to lie above the image's layers, the mount points and links of a
/// grant, and moves the mounts to where these are. `root`: the image without it. Fails with invalid when the image
/// leads one of them to what is the sandbox's own, and not_found when what is to be mounted is not there any more.
base::Status make_driver_layer(const std::string& root, const std::string& layer, DeviceGrant& grant);

}  // namespace thaw::node
