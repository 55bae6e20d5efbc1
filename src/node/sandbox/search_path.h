#pragma once

#include <string>

namespace thaw::node {

/// Where the node looks for the programs it needs; the same wherever thaw was started.
std::string search_path_variable();                        ///< "PATH=…"
std::string find_in_search_path(const std::string& name);  ///< full path, or empty

}  // namespace thaw::node
