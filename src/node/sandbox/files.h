#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

/// Small files and directories of the kernel's and of sandboxes, with errors that name the path.
namespace thaw::node {

/// At most kMaxSmallFile_bytes of a file, read at one go as /proc and cgroup files want it.
base::Result<std::string> read_small_file(const std::string& path);

/// One write() to a file that exists already (a control file). Never creates one: a misspelt control file must fail.
base::Status write_control_file(const std::string& path, std::string_view text);

/// Creates or replaces a file of ours.
base::Status write_file(const std::string& path, std::string_view text, unsigned mode);

/// mkdir -p; directories that exist keep their mode.
base::Status make_directories(const std::string& path, unsigned mode);

/// rm -r; a missing path is no error. Never crosses into another file system, whatever is mounted below.
base::Status remove_tree(const std::string& path);

/// 64-bit FNV-1a in hex, 16 characters: a label that is the same in every life of a data directory.
std::string label_of(std::string_view text);

}  // namespace thaw::node
