#include "node/sandbox/stage.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "node/sandbox/files.h"

namespace thaw::node {
namespace {

constexpr const char* kRootNamespaceSign = "/proc/sys/net/core/rmem_default";
constexpr const char* kStageOptions = "mode=755,size=1m";  // mount points only

base::Status mount_or(const char* source, const std::string& target, const char* type, unsigned long flags,
                      const void* options) {
  if (::mount(source, target.c_str(), type, flags, options) == 0) return {};
  return base::errno_error("cannot mount " + std::string(source) + " at " + target, errno);
}

base::Status make_mount_point(const std::string& path, const std::string& like) {
  struct stat info {};
  if (::stat(like.c_str(), &info) != 0) return base::errno_error("cannot show " + like + " to a sandbox", errno);
  if (S_ISDIR(info.st_mode)) return make_directories(path, 0755);
  THAW_RETURN_IF_ERROR(make_directories(std::filesystem::path(path).parent_path(), 0755));
  return write_file(path, "", 0444);
}

base::Result<std::string> make_cover(const Stage& stage) {
  if (::access(kRootNamespaceSign, F_OK) != 0) return std::string();
  std::string cover = stage.directory + "/sys";
  for (const char* part : {"/vm", "/kernel", "/fs"}) {
    THAW_RETURN_IF_ERROR(make_directories(cover + part, 0555));
    THAW_RETURN_IF_ERROR(
        mount_or((std::string("/proc/sys") + part).c_str(), cover + part, nullptr, MS_BIND | MS_REC, nullptr));
  }
  // A process in a user namespace may mount /proc only where a whole one is to be seen already, and the covered one no
  // longer is.
  THAW_RETURN_IF_ERROR(make_directories(stage.directory + "/proc", 0555));
  THAW_RETURN_IF_ERROR(mount_or("proc", stage.directory + "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr));
  return cover;
}

}  // namespace

base::Result<std::string> set_stage(const Stage& stage) {
  // A mount namespace can be had only by a thread that shares its working directory with no other.
  if (::unshare(CLONE_FS | CLONE_NEWNS) != 0) return base::errno_error("cannot make a mount namespace", errno);
  THAW_RETURN_IF_ERROR(mount_or("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr));
  for (const std::string& point : mounts_below(stage.unmount_below)) ::umount2(point.c_str(), MNT_DETACH);
  THAW_RETURN_IF_ERROR(mount_or("tmpfs", stage.directory, "tmpfs", MS_NOSUID | MS_NODEV, kStageOptions));
  // What is mounted on it later then reaches the namespaces that were copied from this one: runsc's file server has
  // one.
  if (stage.open) THAW_RETURN_IF_ERROR(mount_or("none", stage.directory, nullptr, MS_SHARED, nullptr));
  THAW_RETURN_IF_ERROR(add_to_stage(stage, stage.exposures));
  return make_cover(stage);
}

base::Status add_to_stage(const Stage& stage, const std::vector<Exposure>& exposures) {
  std::vector<Exposure> shown = exposures;
  for (Exposure& exposure : shown) {
    exposure.inside_path = staged(stage, exposure.inside_path);
    THAW_RETURN_IF_ERROR(make_mount_point(exposure.inside_path, exposure.host_path));
  }
  return attach_mounts(shown);
}

}  // namespace thaw::node
