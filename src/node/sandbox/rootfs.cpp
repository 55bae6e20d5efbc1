#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "node/cdi/image_grant.h"
#include "node/sandbox/bundle.h"
#include "node/sandbox/fd.h"
#include "node/sandbox/files.h"
#include "node/sandbox/host_view.h"
#include "node/sandbox/image_root.h"
#include "node/secrets.h"

namespace thaw::node {
namespace {

constexpr const char* kPasswd =
    "root:x:0:0:root:/:/usr/sbin/nologin\n"
    "engine:x:1000:1000:engine:/tmp:/usr/sbin/nologin\n"
    "nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n";
constexpr const char* kGroup = "root:x:0:\nengine:x:1000:\nnogroup:x:65534:\n";
constexpr const char* kNsswitch = "passwd: files\ngroup: files\nhosts: files\n";
constexpr const char* kHosts = "127.0.0.1 localhost\n::1 localhost\n";

/// A mount point: a directory for a directory, an empty file for a file.
base::Status make_mount_point(const std::string& rootfs, const std::string& path, bool directory) {
  if (directory) return make_directories(rootfs + path, 0755);
  THAW_RETURN_IF_ERROR(make_directories(std::filesystem::path(rootfs + path).parent_path(), 0755));
  return write_file(rootfs + path, "", 0644);
}

base::Status make_link(const std::string& link, const std::string& target) {
  ::unlink(link.c_str());
  if (::symlink(target.c_str(), link.c_str()) != 0) return base::errno_error("cannot create link " + link, errno);
  return {};
}

base::Status copy_link(const std::string& rootfs, const std::string& path) {
  std::error_code error;
  const auto target = std::filesystem::read_symlink(path, error);
  if (error) return base::errno_error("cannot read link " + path, error.value());
  return make_link(rootfs + path, target);
}

}  // namespace

std::vector<HostPath> host_view() {
  // Programs and libraries; the loader's cache and Debian's alternatives (libraries may be links through them); the CPU topology that
  // engines size their threads by.
  constexpr std::array kPaths{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/ld.so.cache", "/etc/alternatives",
                              "/sys/devices/system/cpu", "/sys/devices/system/node"};
  std::vector<HostPath> view;
  for (const char* path : kPaths) {
    struct stat info {};
    if (::lstat(path, &info) != 0) continue;
    if (S_ISLNK(info.st_mode)) view.push_back({path, HostPath::Kind::link});
    if (S_ISDIR(info.st_mode)) view.push_back({path, HostPath::Kind::directory});
    if (S_ISREG(info.st_mode)) view.push_back({path, HostPath::Kind::file});
  }
  return view;
}

std::vector<std::string> host_view_paths() {
  std::vector<std::string> paths;
  for (const HostPath& shown : host_view()) paths.push_back(shown.path);
  return paths;
}

namespace {

/// What every sandbox's root has, whatever else is in it.
base::Status make_skeleton(const std::string& directory) {
  for (const char* path : {"/etc", "/proc", "/dev", "/tmp", kInsideRun, kInsideModel, kInsideEngine, kInsideCache})
    THAW_RETURN_IF_ERROR(make_mount_point(directory, path, true));
  // runc gives a tmpfs the mode of what it is mounted on, whatever its options say.
  if (::chmod((directory + "/tmp").c_str(), 01777) != 0) return base::errno_error("cannot open " + directory + "/tmp to all", errno);
  THAW_RETURN_IF_ERROR(make_mount_point(directory, kInsideSecretsMount, true));
  THAW_RETURN_IF_ERROR(make_directories(directory + std::string(std::filesystem::path(kInsideSecrets).parent_path()), 0755));
  THAW_RETURN_IF_ERROR(make_link(directory + kInsideSecrets, kInsideSecretsMount));
  for (const char* path : {kInsideInit, kInsideLazyMap}) THAW_RETURN_IF_ERROR(make_mount_point(directory, path, false));
  THAW_RETURN_IF_ERROR(write_file(directory + "/etc/passwd", kPasswd, 0644));
  THAW_RETURN_IF_ERROR(write_file(directory + "/etc/group", kGroup, 0644));
  return write_file(directory + "/etc/hosts", kHosts, 0644);
}

}  // namespace

base::Status make_rootfs(const std::string& directory) {
  THAW_RETURN_IF_ERROR(make_skeleton(directory));
  THAW_RETURN_IF_ERROR(write_file(directory + "/etc/nsswitch.conf", kNsswitch, 0644));
  for (const HostPath& shown : host_view()) {
    if (shown.kind == HostPath::Kind::link)
      THAW_RETURN_IF_ERROR(copy_link(directory, shown.path));
    else
      THAW_RETURN_IF_ERROR(make_mount_point(directory, shown.path, shown.kind == HostPath::Kind::directory));
  }
  return {};
}

// Of the host are seen only its processors, by which engines size their threads.
base::Status make_image_skeleton(const std::string& directory) {
  THAW_RETURN_IF_ERROR(make_skeleton(directory));
  THAW_RETURN_IF_ERROR(write_file(directory + "/etc/resolv.conf", "", 0644));
  for (const char* path : {"/sys", kInsideDriver}) THAW_RETURN_IF_ERROR(make_mount_point(directory, path, true));
  for (const HostPath& shown : host_view())
    if (is_of_kernel(shown)) THAW_RETURN_IF_ERROR(make_mount_point(directory, shown.path, true));
  return {};
}

base::Status mount_image_root(const std::vector<std::string>& layers, const std::string& skeleton, const std::string& target, bool closed) {
  // By descriptors: the names of a hundred layers are longer than what mount(2) takes (a page).
  std::vector<Fd> lower;
  std::string options = "lowerdir=";
  for (std::size_t i = 0; i <= layers.size(); ++i) {
    const std::string& directory = i == 0 ? skeleton : layers[i - 1];
    lower.emplace_back(::open(directory.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!lower.back()) return base::errno_error("cannot open a layer of an image, " + directory, errno);
    options += (i == 0 ? "/proc/self/fd/" : ":/proc/self/fd/") + std::to_string(lower.back().get());
  }
  const unsigned long flags = closed ? MS_RDONLY | MS_NOSUID | MS_NODEV : MS_RDONLY;
  if (::mount("overlay", target.c_str(), "overlay", flags, options.c_str()) == 0) return {};
  const int error_number = errno;
  base::Error error = base::errno_error("cannot mount the image's layers", error_number);
  if (error_number == ENODEV) error = {base::ErrorKind::unavailable, error.message + "; the kernel has no overlayfs (modprobe overlay)"};
  if (error_number == EINVAL)
    error = {base::ErrorKind::unavailable, error.message + "; the data directory is on an overlay of its own, or on a file system that cannot be one's "
                                                           "lower part: put dataDir on ext4, xfs or btrfs"};
  return error;
}

base::Status unmount_image_root(const std::string& target) {
  if (::umount2(target.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0 || errno == EINVAL || errno == ENOENT) return {};
  return base::errno_error("cannot unmount " + target, errno);
}

}  // namespace thaw::node
