#include "node/sandbox/driver_layer.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <deque>
#include <filesystem>
#include <set>

#include <fmt/format.h>

#include "node/sandbox/contents.h"
#include "node/sandbox/files.h"
#include "node/sandbox/image_root.h"

namespace thaw::node {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ErrorKind;

constexpr int kMaxLinks = 40;                // as the kernel's own path walk
constexpr std::size_t kMaxPath = 4096;       // PATH_MAX
constexpr std::size_t kMaxComponents = 512;  // on the way, links' included

/// Puts a path's components before those that are to be walked.
void put_before(std::deque<std::string>& ahead, const fs::path& path) {
  std::deque<std::string> parts;
  for (const fs::path& part : path)
    if (!part.empty() && part != "/" && part != ".") parts.push_back(part);
  ahead.insert(ahead.begin(), parts.begin(), parts.end());
}

void go_up(std::string& place) {
  place.resize(place.empty() ? 0 : place.rfind('/'));
}

base::Result<std::string> link_target(const std::string& path) {
  std::error_code error;
  const fs::path target = fs::read_symlink(path, error);
  if (error) return base::errno_error("cannot read a link of the image, " + path, error.value());
  return target.string();
}

/// The place of a mount or a link, which no link of the image's leads away from where it may be.
base::Result<std::string> granted_place(const std::string& root, const std::string& path) {
  THAW_ASSIGN_OR_RETURN(std::string place, place_in_root(root, path));
  if (!is_sandbox_own(place)) return place;
  return Error{ErrorKind::invalid,
               fmt::format("the image's links lead {} to {}, and that place is the sandbox's own", path, place)};
}

}  // namespace

base::Result<std::string> place_in_root(const std::string& root, const std::string& path) {
  const fs::path whole(path);
  std::deque<std::string> ahead;
  put_before(ahead, whole.parent_path());
  std::string place;
  int links = 0;
  for (std::size_t walked = 0; !ahead.empty(); ++walked) {
    const std::string part = std::move(ahead.front());
    ahead.pop_front();
    if (part == "..") {
      go_up(place);
      continue;
    }
    const std::string next = place + "/" + part;
    struct stat info {};
    if (walked > kMaxComponents || next.size() > kMaxPath)
      return Error{ErrorKind::invalid, "the image's links make an endless way of " + path};
    const bool there = ::lstat((root + next).c_str(), &info) == 0;
    if (!there && errno != ENOENT) return base::errno_error("cannot look at " + next + " in the image", errno);
    if (there && S_ISLNK(info.st_mode)) {
      if (++links > kMaxLinks) return Error{ErrorKind::invalid, "the image's links make an endless way of " + path};
      THAW_ASSIGN_OR_RETURN(const std::string target, link_target(root + next));
      if (target.starts_with('/')) place.clear();
      put_before(ahead, target);
      continue;
    }
    if (there && !S_ISDIR(info.st_mode))
      return Error{ErrorKind::invalid, fmt::format("the image has a file at {}, on the way to {}", next, path)};
    place = next;
  }
  return place + "/" + whole.filename().string();
}

base::Status make_driver_layer(const std::string& root, const std::string& layer, DeviceGrant& grant) {
  std::set<std::string> taken;
  for (Exposure& mount : grant.mounts) {
    struct stat info {};
    if (::stat(mount.host_path.c_str(), &info) != 0)
      return base::errno_error("cannot mount " + mount.host_path + " in a sandbox", errno);
    THAW_ASSIGN_OR_RETURN(mount.inside_path, granted_place(root, mount.inside_path));
    const std::string place = layer + mount.inside_path;
    taken.insert(mount.inside_path);
    THAW_RETURN_IF_ERROR(
        make_directories(S_ISDIR(info.st_mode) ? place : std::string(fs::path(place).parent_path()), 0755));
    if (!S_ISDIR(info.st_mode)) THAW_RETURN_IF_ERROR(write_file(place, "", 0444));
  }
  for (const GrantedLink& link : grant.links) {
    THAW_ASSIGN_OR_RETURN(const std::string inside, granted_place(root, link.path));
    if (!taken.insert(inside).second) continue;  // two names of one directory
    const std::string place = layer + inside;
    THAW_RETURN_IF_ERROR(make_directories(fs::path(place).parent_path(), 0755));
    if (::symlink(link.target.c_str(), place.c_str()) != 0)
      return base::errno_error("cannot make the link " + inside + " for a device", errno);
  }
  return {};
}

base::Result<DeviceGrant> mount_granted_root(const std::vector<std::string>& layers, const std::string& skeleton,
                                             const std::string& sandbox_dir, DeviceGrant grant, bool closed) {
  const std::string root = image_root_of(sandbox_dir);
  THAW_RETURN_IF_ERROR(make_directories(root, 0755));
  THAW_RETURN_IF_ERROR(mount_image_root(layers, skeleton, root, closed));
  if (grant.mounts.empty() && grant.links.empty()) return grant;
  const std::string layer = sandbox_dir + "/driver";
  THAW_RETURN_IF_ERROR(make_directories(layer, 0755));
  const auto made = make_driver_layer(root, layer, grant);
  if (!made.ok()) return made.error().within("cannot put a device's files into the image's root");
  THAW_RETURN_IF_ERROR(unmount_image_root(root));
  std::vector<std::string> with_driver{layer};
  with_driver.insert(with_driver.end(), layers.begin(), layers.end());
  THAW_RETURN_IF_ERROR(mount_image_root(with_driver, skeleton, root, closed));
  return grant;
}

}  // namespace thaw::node
