#include "node/device/host_memory.h"

#include <algorithm>
#include <fstream>
#include <optional>
#include <sstream>
#include <string_view>
#include <vector>

namespace thaw::node {
namespace {

/// "MemTotal:       24684544 kB" -> bytes; 0 when the field is not there.
std::uint64_t meminfo_field(const std::string& root, const std::string& field) {
  std::ifstream file(root + "/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string name;
    std::uint64_t kib = 0;
    if (words >> name >> kib && name == field + ":") return kib * 1024;
  }
  return 0;
}

/// A mounted cgroup hierarchy that limits memory: where it is mounted, and which of its groups is visible there as the root.
struct Hierarchy {
  std::string mount_point;
  std::string root;
  bool unified = false;
};

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

/// From /proc/self/mountinfo (proc(5)): "36 35 98:0 ROOT MOUNT_POINT options [tags] - TYPE source SUPER_OPTIONS".
std::vector<Hierarchy> memory_hierarchies(const std::string& root) {
  std::vector<Hierarchy> found;
  std::ifstream file(root + "/proc/self/mountinfo");
  for (std::string line; std::getline(file, line);) {
    const std::size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::istringstream before(line.substr(0, dash));
    std::istringstream after(line.substr(dash + 3));
    std::string id;
    std::string parent;
    std::string device;
    Hierarchy hierarchy;
    std::string type;
    std::string source;
    std::string options;
    before >> id >> parent >> device >> hierarchy.root >> hierarchy.mount_point;
    after >> type >> source >> options;
    const auto controllers = split(options, ',');
    hierarchy.unified = type == "cgroup2";
    const bool v1_memory = type == "cgroup" && std::find(controllers.begin(), controllers.end(), "memory") != controllers.end();
    if (hierarchy.unified || v1_memory) found.push_back(hierarchy);
  }
  return found;
}

/// Thaw's own group in a hierarchy, from /proc/self/cgroup: "0::/path" (v2) or "9:memory:/path" (v1).
std::string own_group(const std::string& root, bool unified) {
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const auto controllers = split(line.substr(first + 1, second - first - 1), ',');
    const bool match = unified ? line.starts_with("0::") : std::find(controllers.begin(), controllers.end(), "memory") != controllers.end();
    if (match) return line.substr(second + 1);
  }
  return "/";
}

std::optional<std::uint64_t> read_limit(const std::string& path) {
  std::ifstream file(path);
  std::uint64_t limit = 0;
  if (file >> limit) return limit;
  return std::nullopt;  // absent, or "max"
}

/// The lowest limit from thaw's group up to the hierarchy's root.
std::uint64_t lowest_limit(const std::string& root, const Hierarchy& hierarchy, std::uint64_t lowest) {
  std::string group = own_group(root, hierarchy.unified);
  if (hierarchy.root != "/" && group.starts_with(hierarchy.root)) group.erase(0, hierarchy.root.size());
  const char* file = hierarchy.unified ? "/memory.max" : "/memory.limit_in_bytes";
  while (true) {
    if (group == "/") group.clear();
    lowest = std::min(lowest, read_limit(root + hierarchy.mount_point + group + file).value_or(lowest));
    const std::size_t slash = group.rfind('/');
    if (group.empty() || slash == std::string::npos) return lowest;
    group.erase(slash);
  }
}

}  // namespace

HostMemory read_host_memory(const std::string& root) {
  HostMemory memory;
  memory.total_bytes = meminfo_field(root, "MemTotal");
  memory.available_bytes = meminfo_field(root, "MemAvailable");
  memory.limit_bytes = memory.total_bytes;
  for (const Hierarchy& hierarchy : memory_hierarchies(root)) memory.limit_bytes = lowest_limit(root, hierarchy, memory.limit_bytes);
  return memory;
}

std::string cpu_name(const std::string& root) {
  std::ifstream file(root + "/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "CPU";
}

}  // namespace thaw::node
