#pragma once

#include <string>
#include <vector>

#include "cli/context.h"

namespace thaw::cli {

/// Parses a command line (without the program's name), runs the command and returns the exit code. Never throws.
int run_cli(const std::vector<std::string>& arguments, Context& context);

}  // namespace thaw::cli
