#pragma once

#include <string>

#include "base/result.h"

namespace thaw::cli {

/// The static first process of a sandbox: beside the binary that runs, or where the package puts it.
base::Result<std::string> find_init();

}  // namespace thaw::cli
