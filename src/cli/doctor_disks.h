#pragma once

#include <string>
#include <vector>

#include "cli/context.h"

namespace thaw::cli {

/// Files of deployed models, as the server names them; none when no server answers.
std::vector<std::string> deployed_files(const Context& context);

/// `thaw doctor --disks`: measures the disks of the data directory, of deployed models and of `paths`, each disk once,
/// stores what it finds and prints it. Returns the exit code.
int measure_disks(Context& context, const node::AgentConfig& config, const std::vector<std::string>& paths);

}  // namespace thaw::cli
