#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "node/sandbox/process.h"

namespace thaw::node {

/// The first and the last word between the node and thaw-init (src/node/sandbox/init/thaw-init.c, which has both formats).
/// What thaw-init is told to become.
/// Fails when a string holds a NUL or the whole is larger than thaw-init takes (256 KiB, 8192 strings).
base::Result<std::string> init_message(const std::vector<std::string>& argv, const std::map<std::string, std::string>& env);

/// How the engine ended, if thaw-init has said so. `control`: our end of its socket; never blocks.
std::optional<Exit> read_ending(int control);

}  // namespace thaw::node
