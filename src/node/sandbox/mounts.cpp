#include "node/sandbox/mounts.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>

#include <algorithm>
#include <cerrno>
#include <sstream>
#include <thread>

#include "node/sandbox/fd.h"
#include "node/sandbox/files.h"

namespace thaw::node {
namespace {

base::Error mount_error(const std::string& what, int error_number) {
  base::Error error = base::errno_error(what, error_number);
  if (error_number == ENOSYS || error_number == EINVAL || error_number == EPERM) error.kind = base::ErrorKind::unavailable;
  return error;
}

/// A copy of the mount at `exposure.host_path` that is attached nowhere yet.
base::Result<Fd> detached_copy(const Exposure& exposure) {
  Fd tree(::open_tree(AT_FDCWD, exposure.host_path.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
  if (!tree) return mount_error("cannot copy the mount of " + exposure.host_path, errno);
  struct mount_attr attributes {};
  attributes.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
  if (!exposure.writable) attributes.attr_set |= MOUNT_ATTR_RDONLY;
  if (!exposure.executable) attributes.attr_set |= MOUNT_ATTR_NOEXEC;
  attributes.propagation = MS_PRIVATE;
  if (::mount_setattr(tree.get(), "", AT_EMPTY_PATH, &attributes, sizeof attributes) != 0)
    return mount_error("cannot set the flags of a mount of " + exposure.host_path, errno);
  return tree;
}

base::Result<std::vector<Fd>> detached_copies(const std::vector<Exposure>& exposures) {
  std::vector<Fd> trees;
  for (const Exposure& exposure : exposures) {
    THAW_ASSIGN_OR_RETURN(Fd tree, detached_copy(exposure));
    trees.push_back(std::move(tree));
  }
  return trees;
}

base::Status attach(const std::vector<Exposure>& exposures, const std::vector<Fd>& trees) {
  for (std::size_t i = 0; i < trees.size(); ++i)
    if (::move_mount(trees[i].get(), "", AT_FDCWD, exposures[i].inside_path.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0)
      return mount_error("cannot mount " + exposures[i].host_path + " at " + exposures[i].inside_path + " in the sandbox", errno);
  return {};
}

/// Runs on a thread of its own, which is spoilt for anything else: it ends up in the sandbox's mount namespace.
base::Status attach_in(int namespace_fd, const std::vector<Exposure>& exposures, const std::vector<Fd>& trees) {
  // A mount namespace can be entered only by a thread that shares its working directory with no other.
  if (::unshare(CLONE_FS) != 0) return mount_error("cannot leave the process's working directory (unshare)", errno);
  if (::setns(namespace_fd, CLONE_NEWNS) != 0) return mount_error("cannot enter the sandbox's mount namespace (setns)", errno);
  return attach(exposures, trees);
}

}  // namespace

bool can_inject_mounts() {
  // Both calls refuse these arguments, but only a kernel that does not know them says ENOSYS.
  struct mount_attr none {};
  const bool has_setattr = ::mount_setattr(-1, "", AT_EMPTY_PATH, &none, sizeof none) == 0 || errno != ENOSYS;
  const bool has_open_tree = ::open_tree(-1, "", 0) >= 0 || errno != ENOSYS;
  return has_setattr && has_open_tree;
}

base::Status inject_mounts(pid_t pid, const std::vector<Exposure>& exposures) {
  const std::string namespace_path = "/proc/" + std::to_string(pid) + "/ns/mnt";
  const Fd target(::open(namespace_path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!target) return base::errno_error("cannot open " + namespace_path, errno);
  THAW_ASSIGN_OR_RETURN(const std::vector<Fd> trees, detached_copies(exposures));
  base::Status status;
  std::thread([&] { status = attach_in(target.get(), exposures, trees); }).join();
  return status;
}

base::Status attach_mounts(const std::vector<Exposure>& exposures) {
  THAW_ASSIGN_OR_RETURN(const std::vector<Fd> trees, detached_copies(exposures));
  return attach(exposures, trees);
}

std::vector<std::string> mounts_below(const std::string& directory) {
  std::vector<std::string> found;
  auto table = read_small_file("/proc/self/mountinfo");
  if (!table.ok()) return found;
  std::istringstream lines(*table);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    std::string skipped;
    std::string point;
    fields >> skipped >> skipped >> skipped >> skipped >> point;
    if (point == directory || point.starts_with(directory + "/")) found.push_back(point);
  }
  std::reverse(found.begin(), found.end());
  return found;
}

}  // namespace thaw::node
