#pragma once

#include <string>

namespace thaw::node {

/// The home directory of the user who runs this process, as the user database has it: a shell's ~ where HOME is not set. Empty when it does not know the
/// user. Any thread.
std::string user_directory();

}  // namespace thaw::node
