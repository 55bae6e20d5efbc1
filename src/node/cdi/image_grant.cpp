#include "node/cdi/image_grant.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "node/cdi/elf_soname.h"

namespace thaw::node {
namespace {

namespace fs = std::filesystem;

bool is_within(const std::string& path, const std::string& directory) {
  return path == directory || path.starts_with(directory + "/");
}

std::string folder_of(const std::string& path) {
  return fs::path(path).parent_path();
}
std::string name_of(const std::string& path) {
  return fs::path(path).filename();
}

bool is_directory(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

bool is_library_name(const std::string& name) {
  return name.find(".so") != std::string::npos;
}

/// Collects links, one for each place.
class Links {
 public:
  explicit Links(const std::vector<Exposure>& mounts) {
    for (const Exposure& mount : mounts) {
      mounted_.insert(mount.inside_path);
      if (folder_of(mount.inside_path) != "/") folders_.insert(folder_of(mount.inside_path));
      if (is_directory(mount.host_path)) directories_.push_back(mount.inside_path);
    }
  }

  /// As create-symlinks does it: the later holds.
  void add_of_hook(const GrantedLink& link) {
    const bool beside = std::any_of(folders_.begin(), folders_.end(),
                                    [&](const std::string& folder) { return is_within(folder_of(link.path), folder); });
    if (!beside || mounted_.contains(link.path) || in_mounted_directory(link.path) || is_sandbox_own(link.path)) return;
    links_[link.path] = link.target;
    // libcuda.so -> libcuda.so.1, for who links against it.
    if (is_library_name(name_of(link.path)) && link.target.find('/') == std::string::npos)
      links_.emplace(kInsideDriver + ("/" + name_of(link.path)), folder_of(link.path) + "/" + link.target);
  }

  /// A mounted library gives itself this name.
  void add_name(const std::string& path, const std::string& name) {
    const std::string beside = folder_of(path) + "/" + name;
    if (!mounted_.contains(beside)) links_.emplace(beside, name_of(path));
    if (links_.emplace(kInsideDriver + ("/" + name), path).second) has_names_ = true;
  }

  [[nodiscard]] bool in_mounted_directory(const std::string& path) const {
    return std::any_of(directories_.begin(), directories_.end(),
                       [&](const std::string& directory) { return is_within(path, directory); });
  }
  [[nodiscard]] bool has_names() const { return has_names_; }
  [[nodiscard]] std::vector<GrantedLink> all() const {
    std::vector<GrantedLink> all;
    for (const auto& [path, target] : links_) all.push_back({path, target});
    return all;
  }

 private:
  std::set<std::string> mounted_;
  std::set<std::string> folders_;
  std::vector<std::string> directories_;
  std::map<std::string, std::string> links_;  ///< target by path
  bool has_names_ = false;
};

}  // namespace

base::Result<DeviceGrant> image_grant_of(const CdiEdits& edits) {
  THAW_ASSIGN_OR_RETURN(const LibraryHooks hooks, read_library_hooks(edits.hooks));
  CdiEdits others = edits;
  others.hooks.clear();
  THAW_ASSIGN_OR_RETURN(DeviceGrant grant, grant_of(others, {}));
  Links links(grant.mounts);
  for (const GrantedLink& link : hooks.links) links.add_of_hook(link);
  for (const Exposure& mount : grant.mounts) {
    if (!is_library_name(name_of(mount.inside_path))) continue;
    if (const auto name = soname_of(mount.host_path)) links.add_name(mount.inside_path, *name);
  }
  grant.links = links.all();
  if (links.has_names()) grant.library_dirs.emplace_back(kInsideDriver);
  // Of directories that are mounted whole the links are in them.
  for (const std::string& folder : hooks.folders)
    if (links.in_mounted_directory(folder)) grant.library_dirs.push_back(folder);
  return grant;
}

}  // namespace thaw::node
