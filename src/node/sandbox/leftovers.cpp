#include "node/sandbox/leftovers.h"

#include <sys/mount.h>

#include <cerrno>
#include <filesystem>
#include <set>
#include <system_error>

#include "node/sandbox/files.h"
#include "node/sandbox/mounts.h"

namespace thaw::node {
namespace {

constexpr auto kRemoveTimeout = base::Seconds(10);

std::set<std::string> names_in(const std::string& directory) {
  std::set<std::string> names;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(directory, ignored)) names.insert(entry.path().filename());
  return names;
}

}  // namespace

base::Result<int> remove_leftovers(const SandboxHome& home) {
  // Processes and groups first: what is mounted or open goes with them.
  std::set<std::string> found = names_in(home.boxes());
  if (home.cgroups) {
    const std::vector<std::string> groups = home.cgroups->children(home.label);
    for (const std::string& name : groups) {
      const Cgroup group(home.cgroups, home.cgroups->parent_path(home.label) + "/" + name);
      group.kill_all();
      if (auto removed = group.remove(kRemoveTimeout); !removed.ok()) return removed.error().within("cannot clean up after an earlier run");
      found.insert(name);
    }
  }
  // Sandboxes mount in namespaces of their own; what is in the host's table here was left by something else, and would make the removal
  // of files reach into it.
  for (const std::string& point : mounts_below(home.directory))
    if (::umount2(point.c_str(), MNT_DETACH) != 0 && errno != EINVAL)
      return base::errno_error("cannot clean up after an earlier run: cannot unmount " + point, errno);
  for (const std::string& directory : {home.boxes(), home.runtime_root(), home.rootfs(), home.image_skeleton()})
    if (auto removed = remove_tree(directory); !removed.ok()) return removed.error().within("cannot clean up after an earlier run");
  return static_cast<int>(found.size());
}

}  // namespace thaw::node
