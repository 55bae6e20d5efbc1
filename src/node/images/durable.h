#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

/// Files that are there after a power cut.
namespace thaw::node {

base::Status sync_file(const std::string& path);
base::Status sync_directory(const std::string& path);
/// Creates a file that must not exist yet, and syncs it.
base::Status write_durably(const std::string& path, std::string_view text, unsigned mode);

}  // namespace thaw::node
