#pragma once

#include <string>
#include <vector>

namespace thaw::node {

/// A path of the host that every sandbox sees at the same place, read-only.
struct HostPath {
  enum class Kind { directory, file, link };
  std::string path;
  Kind kind = Kind::directory;
};

/// Those of them that this host has. Links are copied, the rest is mounted.
std::vector<HostPath> host_view();
/// Not programs or libraries, but what the kernel says of the machine: also for engines with files of their own.
inline bool is_of_kernel(const HostPath& shown) { return shown.path.starts_with("/sys/"); }
/// Their paths alone.
std::vector<std::string> host_view_paths();

}  // namespace thaw::node
