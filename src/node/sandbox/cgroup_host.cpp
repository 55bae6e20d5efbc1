#include "node/sandbox/cgroup_host.h"

#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>
#include <sstream>
#include <string_view>
#include <system_error>

#include "node/sandbox/files.h"

namespace thaw::node {
namespace {

constexpr std::array<const char*, 3> kNeeded{"memory", "cpu", "pids"};
constexpr const char* kOurs = "/thaw";
constexpr const char* kServerLeaf = "/server";        // in a delegated group: this process
constexpr const char* kSandboxBranch = "/sandboxes";  // in a delegated group: everything it starts

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

/// mountinfo writes space, tab, newline and backslash as \ooo.
std::string unescape(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

/// One line of mountinfo (proc(5)): "id parent dev root mount-point options [optional…] - type source super-options".
bool parse_mount(const std::string& line, CgroupHost::Hierarchy& hierarchy) {
  const std::vector<std::string> fields = split(line, ' ');
  const auto dash = std::find(fields.begin(), fields.end(), "-");
  if (fields.size() < 5 || fields.end() - dash < 4) return false;
  const std::string& type = *(dash + 1);
  if (type != "cgroup" && type != "cgroup2") return false;
  hierarchy.mount = unescape(fields[4]);
  hierarchy.v2 = type == "cgroup2";
  hierarchy.controllers.clear();
  if (!hierarchy.v2)
    for (const std::string& option : split(*(dash + 3), ','))
      if (option != "rw" && option != "ro") hierarchy.controllers.push_back(option);
  return true;
}

std::string own_v2_group(const std::string& self_cgroup) {
  auto text = read_small_file(self_cgroup);
  if (!text.ok()) return {};
  for (const std::string& line : split(*text, '\n'))
    if (line.starts_with("0::/")) return line.substr(3);
  return {};
}

/// systemd marks a group that it hands over (systemd.resource-control(5), Delegate=).
bool is_delegated(const std::string& directory) {
  std::array<char, 8> value{};
  for (const char* name : {"trusted.delegate", "user.delegate"}) {
    const ssize_t size = ::getxattr(directory.c_str(), name, value.data(), value.size());
    if (size == 1 && value[0] == '1') return true;
  }
  return false;
}

/// End of the path component after the one that ends at `end`; npos behind the last.
std::size_t next_slash(const std::string& path, std::size_t end) {
  return end >= path.size() ? std::string::npos : std::min(path.find('/', end + 1), path.size());
}

base::Status enable_controllers(const std::string& directory) {
  // Who delegates may keep this one to himself; block I/O is then not limited.
  (void)write_control_file(directory + "/cgroup.subtree_control", "+io");
  auto status = write_control_file(directory + "/cgroup.subtree_control", "+memory +cpu +pids");
  if (status.ok()) return status;
  return base::Error{status.error().kind,
                     status.error().message +
                         "; sandbox limits need these controllers: run thaw in a systemd unit with Delegate=yes, or "
                         "with the host's cgroup namespace"};
}

constexpr int kMakeAttempts = 100;

/// Another server that ends removes "/thaw" when it is empty, perhaps between our making it and what is to be in it.
base::Status make_group(const std::string& directory) {
  base::Status made;
  for (int attempt = 0; attempt < kMakeAttempts; ++attempt) {
    made = make_directories(directory, 0755);
    if (made.ok()) break;
  }
  return made;
}

}  // namespace

base::Result<std::shared_ptr<const CgroupHost>> CgroupHost::detect(const std::string& mountinfo,
                                                                   const std::string& self_cgroup) {
  THAW_ASSIGN_OR_RETURN(const std::string table, read_small_file(mountinfo));
  auto host = std::make_shared<CgroupHost>();
  std::set<std::string> seen;
  for (const std::string& line : split(table, '\n')) {
    Hierarchy hierarchy;
    if (parse_mount(line, hierarchy) && seen.insert(hierarchy.mount).second)
      host->hierarchies_.push_back(std::move(hierarchy));
  }
  for (const Hierarchy& hierarchy : host->hierarchies_) {
    if (!hierarchy.v2) continue;
    auto offered = read_small_file(hierarchy.mount + "/cgroup.controllers");
    if (offered.ok() && offered->find("memory") != std::string::npos) host->unified_ = true;
    if (!host->unified_) continue;
    std::string own = own_v2_group(self_cgroup);
    if (own.ends_with(kServerLeaf))
      own.resize(own.size() - std::string_view(kServerLeaf).size());  // an earlier agent of this process moved us
    if (own.size() > 1 && is_delegated(hierarchy.mount + own)) host->delegated_ = own;
  }
  for (const char* controller : kNeeded)
    if (!host->has(controller))
      return base::Error{base::ErrorKind::unavailable,
                         std::string("cannot limit sandboxes: this host mounts no cgroup controller \"") + controller +
                             "\"; mount cgroup v2 at /sys/fs/cgroup, or start with --sandbox=none"};
  return std::shared_ptr<const CgroupHost>(std::move(host));
}

bool CgroupHost::has(const std::string& controller) const {
  const std::string mount = mount_of(controller);
  if (mount.empty() || !unified_) return !mount.empty();
  auto offered = read_small_file(mount + "/cgroup.controllers");
  if (!offered.ok()) return false;
  std::replace(offered->begin(), offered->end(), '\n', ' ');
  const auto names = split(*offered, ' ');
  return std::find(names.begin(), names.end(), controller) != names.end();
}

std::string CgroupHost::mount_of(const std::string& controller) const {
  for (const Hierarchy& hierarchy : hierarchies_) {
    if (unified_ ? hierarchy.v2
                 : std::find(hierarchy.controllers.begin(), hierarchy.controllers.end(), controller) !=
                       hierarchy.controllers.end())
      return hierarchy.mount;
  }
  return {};
}

std::string CgroupHost::parent_path(const std::string& label) const {
  return delegated_.empty() ? std::string(kOurs) + "/" + label : delegated_ + kSandboxBranch + "/" + label;
}

base::Status CgroupHost::prepare_parent(const std::string& label) const {
  if (!unified_) {
    // Made now and kept while the server lives: made by the first sandbox, another server on this host that ends could
    // take "/thaw" away under its feet.
    base::Status needed;
    for (const Hierarchy& hierarchy : hierarchies_) {
      if (hierarchy.v2) continue;
      base::Status made = make_group(hierarchy.mount + parent_path(label));
      const bool matters = std::any_of(std::begin(kNeeded), std::end(kNeeded),
                                       [&](const char* c) { return mount_of(c) == hierarchy.mount; });
      if (!made.ok() && matters) needed = std::move(made);
    }
    return needed;
  }
  const std::string mount = mount_of("memory");
  if (!delegated_.empty()) {
    const std::string leaf = mount + delegated_ + kServerLeaf;
    THAW_RETURN_IF_ERROR(make_directories(leaf, 0755));
    THAW_ASSIGN_OR_RETURN(const std::string pids, read_small_file(mount + delegated_ + "/cgroup.procs"));
    for (const std::string& pid : split(pids, '\n'))
      THAW_RETURN_IF_ERROR(write_control_file(leaf + "/cgroup.procs", pid));
  }
  // From the outermost group that is ours to change down to the parent: each must pass the controllers on to the next.
  const std::string path = parent_path(label);
  for (std::size_t end = delegated_.size(); end != std::string::npos; end = next_slash(path, end)) {
    THAW_RETURN_IF_ERROR(make_group(mount + path.substr(0, end)));
    THAW_RETURN_IF_ERROR(enable_controllers(mount + path.substr(0, end)));
  }
  return {};
}

void CgroupHost::remove_parent(const std::string& label) const {
  const std::string path = parent_path(label);
  for (const Hierarchy& hierarchy : hierarchies_) {
    // rmdir refuses a group that is not empty, so another server's groups are safe.
    ::rmdir((hierarchy.mount + path).c_str());
    ::rmdir((hierarchy.mount + path.substr(0, path.rfind('/'))).c_str());
  }
}

std::vector<std::string> CgroupHost::children(const std::string& label) const {
  std::set<std::string> names;
  for (const Hierarchy& hierarchy : hierarchies_) {
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(hierarchy.mount + parent_path(label), ignored))
      if (entry.is_directory(ignored)) names.insert(entry.path().filename());
  }
  return {names.begin(), names.end()};
}

}  // namespace thaw::node
