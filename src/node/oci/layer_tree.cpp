#include "node/oci/layer_tree.h"

#include <fcntl.h>
#include <fts.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include <fmt/format.h>

#include "node/sandbox/fd.h"

namespace thaw::node {
namespace {

using base::Error;
using base::ErrorKind;

constexpr std::uint64_t kBlockBytes = 512;  // of st_blocks
constexpr mode_t kNoWrite = 0755, kReadable = 0444, kPassable = 0111;
constexpr const char* kOpaque = "trusted.overlay.opaque";

Error file_system_error(const std::string& what, int error_number) {
  if (error_number == EPERM || error_number == EOPNOTSUPP)
    return {ErrorKind::unavailable,
            fmt::format("{}: the file system of the data directory cannot hold an overlay's marks; put dataDir on ext4, xfs or btrfs, "
                        "not on an overlay of its own",
                        what)};
  return base::errno_error(what, error_number);
}

base::Status settle_entry(const FTSENT& entry) {
  const struct stat& info = *entry.fts_statp;
  if (S_ISLNK(info.st_mode)) return ::lchown(entry.fts_accpath, 0, 0) == 0 ? base::Status() : base::errno_error("cannot take a link over", errno);
  if (!S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode))
    return ::unlink(entry.fts_accpath) == 0 ? base::Status() : base::errno_error("cannot remove what is no file", errno);
  mode_t mode = (info.st_mode & kNoWrite) | kReadable;
  if (S_ISDIR(info.st_mode) || (info.st_mode & kPassable) != 0) mode |= kPassable;
  // The owner first: that drops bits.
  if (::lchown(entry.fts_accpath, 0, 0) != 0 || ::chmod(entry.fts_accpath, mode) != 0) return base::errno_error("cannot take a file over", errno);
  return {};
}

/// A directory of the layer, whose way has no link.
base::Result<Fd> open_below(int root, const std::string& path) {
  struct open_how how {};
  how.flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  Fd fd(static_cast<int>(::syscall(SYS_openat2, root, path.empty() ? "." : path.c_str(), &how, sizeof how)));
  if (!fd) return base::errno_error("cannot enter " + path + " of a layer", errno);
  return fd;
}

/// The same, made where it is missing: a layer may take files out of directories that it says nothing else of.
base::Result<Fd> make_below(int root, const std::string& path) {
  for (std::size_t slash = path.find('/');; slash = path.find('/', slash + 1)) {
    const std::string part = path.substr(0, slash);
    const std::size_t last = part.rfind('/');
    THAW_ASSIGN_OR_RETURN(const Fd parent, open_below(root, last == std::string::npos ? "" : part.substr(0, last)));
    const std::string name = last == std::string::npos ? part : part.substr(last + 1);
    if (::mkdirat(parent.get(), name.c_str(), kNoWrite) != 0 && errno != EEXIST)
      return base::errno_error("cannot make " + part + " of a layer", errno);
    if (slash == std::string::npos) break;
  }
  return open_below(root, path);
}

base::Status hide_below(int directory) {
  // By its name in /proc: an O_PATH descriptor takes no attributes.
  const std::string name = fmt::format("/proc/self/fd/{}", directory);
  if (::setxattr(name.c_str(), kOpaque, "y", 1, 0) == 0) return {};
  return file_system_error("cannot mark a directory of a layer", errno);
}

base::Status mark_gone(int root, const std::string& path) {
  const std::size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? std::string() : path.substr(0, slash);
  const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  THAW_ASSIGN_OR_RETURN(const Fd parent, directory.empty() ? open_below(root, "") : make_below(root, directory));
  if (::mknodat(parent.get(), name.c_str(), S_IFCHR, makedev(0, 0)) == 0) return {};
  if (errno != EEXIST) return file_system_error("cannot mark a file of a layer as gone", errno);
  // The layer has something of its own there: a file covers what is below as it is, a directory must be told to.
  auto same = open_below(root, path);
  return same.ok() ? hide_below(same->get()) : base::Status();
}

}  // namespace

base::Result<TreeSize> settle_tree(const std::string& directory, LayerBounds bounds) {
  std::string root = directory;
  char* const roots[] = {root.data(), nullptr};
  const std::unique_ptr<FTS, int (*)(FTS*)> walk(::fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, nullptr), &::fts_close);
  if (!walk) return base::errno_error("cannot look into a layer", errno);
  TreeSize size;
  errno = 0;
  while (const FTSENT* const entry = ::fts_read(walk.get())) {
    if (entry->fts_info == FTS_DP) continue;
    if (entry->fts_info == FTS_DNR || entry->fts_info == FTS_ERR || entry->fts_info == FTS_NS)
      return Error{ErrorKind::invalid, "a layer cannot be looked into: " + base::errno_error("a path of it", entry->fts_errno).message};
    size.bytes += static_cast<std::uint64_t>(entry->fts_statp->st_blocks) * kBlockBytes;
    if (++size.entries > bounds.entries + 1 || size.bytes > bounds.file_bytes + size.entries * kBlockBytes * 8)
      return Error{ErrorKind::exhausted, "a layer unpacked to more than it said; nothing of it is kept"};
    THAW_RETURN_IF_ERROR(settle_entry(*entry));
    errno = 0;
  }
  if (errno != 0) return base::errno_error("cannot look into a layer", errno);
  return size;
}

base::Status mark_whiteouts(const std::string& directory, const LayerContents& contents) {
  const Fd root(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!root) return base::errno_error("cannot open a layer", errno);
  for (const std::string& path : contents.whiteouts) THAW_RETURN_IF_ERROR(mark_gone(root.get(), path));
  for (const std::string& path : contents.opaque_dirs) {
    THAW_ASSIGN_OR_RETURN(const Fd hiding, path.empty() ? open_below(root.get(), "") : make_below(root.get(), path));
    THAW_RETURN_IF_ERROR(hide_below(hiding.get()));
  }
  return {};
}

}  // namespace thaw::node
