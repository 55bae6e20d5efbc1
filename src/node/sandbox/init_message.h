#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/result.h"

namespace thaw::node {

/// What thaw-init (src/node/sandbox/init/thaw-init.c, which has the format) is told to become.
/// Fails when a string holds a NUL or the whole is larger than thaw-init takes (256 KiB, 8192 strings).
base::Result<std::string> init_message(const std::vector<std::string>& argv, const std::map<std::string, std::string>& env);

}  // namespace thaw::node
