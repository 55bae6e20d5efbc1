#pragma once

#include <optional>
#include <string>

/// The problem: a driver's library lies in a file with its version (libcuda.so.550.54.15), and programs ask for the
/// name that it has given itself (libcuda.so.1). ldconfig makes links of these names; in a container image's root,
/// which is read-only and has an ldconfig of a stranger's, it is the node that does.
namespace thaw::node {

/// The name that a shared library of this machine's own architecture gives itself (DT_SONAME; System V gABI, chapter 5,
/// "Dynamic Section"); nothing for any other file, and for a name that is none for a file in a directory. Reads some
/// kilobytes of headers, whatever the file claims; follows links. Blocking.
std::optional<std::string> soname_of(const std::string& path);
/// The same of an open file.
std::optional<std::string> soname_of(int fd);

}  // namespace thaw::node
