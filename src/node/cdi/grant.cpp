#include "node/cdi/grant.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>

#include <fmt/format.h>

#include "node/sandbox/files.h"

namespace thaw::node {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ErrorKind;

constexpr std::array kReserved{"/proc", "/sys", "/dev", "/thaw"};

bool is_within(const std::string& path, const std::string& directory) { return path == directory || path.starts_with(directory + "/"); }

bool is_shown(const std::string& path, const std::vector<std::string>& shown) {
  return std::any_of(shown.begin(), shown.end(), [&](const std::string& directory) { return is_within(path, directory); });
}

bool has(const std::vector<std::string>& options, std::string_view option) { return std::find(options.begin(), options.end(), option) != options.end(); }

std::string normal(const std::string& path) {
  std::string out = fs::path(path).lexically_normal();
  while (out.size() > 1 && out.back() == '/') out.pop_back();
  return out;
}

base::Result<GrantedNode> node_of(const CdiDeviceNode& edit) {
  const std::string host = normal(edit.host_path.empty() ? edit.path : edit.host_path);
  if (edit.type == "p") return Error{ErrorKind::invalid, "cannot grant " + host + ": it is a FIFO, and sandboxes are shown device files only"};
  THAW_ASSIGN_OR_RETURN(GrantedNode node, device_node(host));
  node.inside_path = normal(edit.path);
  if (!node.inside_path.starts_with("/dev/")) return Error{ErrorKind::invalid, "cannot grant " + host + " at " + node.inside_path + ": device files belong below /dev"};
  const bool other_kind = !edit.type.empty() && (edit.type == "b") != node.block;
  if (other_kind || edit.major.value_or(node.major) != node.major || edit.minor.value_or(node.minor) != node.minor)
    return Error{ErrorKind::conflict, fmt::format("cannot grant {}: it is the device {}:{}, and its CDI file says another; write that file anew "
                                                  "(nvidia-ctk cdi generate)", host, node.major, node.minor)};
  // "m" would let device files be made, for which engines have no capability: nothing is lost by not allowing it.
  if (!edit.permissions.empty()) node.access = edit.permissions;
  std::erase(node.access, 'm');
  if (node.access.empty()) node.access = "r";
  return node;
}

base::Result<Exposure> mount_of(const CdiMount& edit) {
  Exposure mount{normal(edit.host_path), normal(edit.container_path), true, true};
  const auto refuse = [&](const char* why) { return Error{ErrorKind::invalid, fmt::format("cannot mount {} at {} in a sandbox: {}", mount.host_path, mount.inside_path, why)}; };
  if (!edit.type.empty() && edit.type != "bind") return refuse("only bind mounts are supported");
  if (mount.inside_path == "/" || is_sandbox_own(mount.inside_path)) return refuse("that place is the sandbox's own");
  struct stat info {};
  if (::stat(mount.host_path.c_str(), &info) != 0) return base::errno_error("cannot mount " + mount.host_path + " in a sandbox", errno);
  mount.writable = !has(edit.options, "ro");
  mount.executable = !has(edit.options, "noexec");
  return mount;
}

template <typename T>
void put(std::vector<T>& all, T one) {
  std::erase_if(all, [&](const T& other) { return other.inside_path == one.inside_path; });
  all.push_back(std::move(one));
}

}  // namespace

bool is_sandbox_own(const std::string& inside_path) { return is_shown(inside_path, {kReserved.begin(), kReserved.end()}); }

base::Result<GrantedNode> device_node(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return base::errno_error("cannot pass device " + path + " to a sandbox", errno);
  if (!S_ISCHR(info.st_mode) && !S_ISBLK(info.st_mode))
    return Error{ErrorKind::invalid, "cannot pass " + path + " to a sandbox: it is no device file"};
  return GrantedNode{path, path, S_ISBLK(info.st_mode), static_cast<std::int64_t>(major(info.st_rdev)), static_cast<std::int64_t>(minor(info.st_rdev)), "rw"};
}

base::Result<DeviceGrant> grant_of(const CdiEdits& edits, const std::vector<std::string>& shown) {
  if (!edits.additional_gids.empty())
    return Error{ErrorKind::invalid,
                 fmt::format("cannot grant the groups {}: a sandbox has users and groups of its own; open the device file to all (udev: MODE=\"0666\") "
                             "and take additionalGids out of the CDI file", fmt::join(edits.additional_gids, ", "))};
  DeviceGrant grant;
  for (const CdiDeviceNode& edit : edits.device_nodes) {
    THAW_ASSIGN_OR_RETURN(GrantedNode node, node_of(edit));
    put(grant.nodes, std::move(node));
  }
  for (const CdiMount& edit : edits.mounts) {
    THAW_ASSIGN_OR_RETURN(Exposure mount, mount_of(edit));
    const bool there_already = mount.host_path == mount.inside_path && is_shown(mount.inside_path, shown);
    if (!there_already) put(grant.mounts, std::move(mount));
  }
  // A mount must not cover one that is made before it.
  std::stable_sort(grant.mounts.begin(), grant.mounts.end(), [](const Exposure& a, const Exposure& b) {
    return std::count(a.inside_path.begin(), a.inside_path.end(), '/') < std::count(b.inside_path.begin(), b.inside_path.end(), '/');
  });
  for (const std::string& variable : edits.env) {
    const std::size_t equals = variable.find('=');
    grant.env[variable.substr(0, equals)] = variable.substr(equals + 1);
  }
  for (const CdiHook& hook : edits.hooks)
    if (!is_library_hook(hook)) grant.hooks.push_back(hook);
  return grant;
}

base::Status make_grant_mount_points(const std::string& rootfs, const DeviceGrant& grant, const std::vector<std::string>& shown) {
  for (const Exposure& mount : grant.mounts) {
    struct stat info {};
    if (::stat(mount.host_path.c_str(), &info) != 0) return base::errno_error("cannot mount " + mount.host_path + " in a sandbox", errno);
    if (is_shown(mount.inside_path, shown)) {
      if (::access(mount.inside_path.c_str(), F_OK) == 0) continue;
      return Error{ErrorKind::invalid, fmt::format("cannot mount {} at {} in a sandbox: there it sees the host's own directory, which has no such file",
                                                   mount.host_path, mount.inside_path)};
    }
    const std::string place = rootfs + mount.inside_path;
    THAW_RETURN_IF_ERROR(make_directories(S_ISDIR(info.st_mode) ? place : std::string(fs::path(place).parent_path()), 0755));
    if (!S_ISDIR(info.st_mode) && ::access(place.c_str(), F_OK) != 0) THAW_RETURN_IF_ERROR(write_file(place, "", 0444));
  }
  return {};
}

}  // namespace thaw::node
