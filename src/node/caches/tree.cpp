#include "node/caches/tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "node/sandbox/fd.h"

namespace thaw::node {
namespace {

using base::Error;
using base::ErrorKind;

constexpr int kOpenFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
constexpr std::uint64_t kBlockBytes = 512;   // of st_blocks
constexpr std::size_t kNamesAtOnce = 4'096;  // of a directory that is being emptied
constexpr int kRaiseAttempts = 1'000;
constexpr std::uint64_t kMaxRounds =
    1'000'000;  // of an emptying that somebody works against; each takes a directory's names

Error walk_error(const char* what, const std::string& directory, int error_number) {
  return base::errno_error(fmt::format("cannot {} {}", what, directory), error_number);
}

/// Names in the directory, at most `limit`, without "." and "..".
base::Result<std::vector<std::string>> names_in(int directory, std::size_t limit) {
  const int own = ::openat(directory, ".", kOpenFlags);
  if (own < 0) return base::errno_error("cannot open a directory", errno);
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(own), &::closedir);
  if (!stream) {
    ::close(own);
    return base::errno_error("cannot read a directory", ENOMEM);
  }
  std::vector<std::string> names;
  while (names.size() < limit) {
    errno = 0;
    const dirent* entry = ::readdir(stream.get());  // NOLINT(concurrency-mt-unsafe): a stream of our own
    if (entry == nullptr) {
      if (errno != 0) return base::errno_error("cannot read a directory", errno);
      break;
    }
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  return names;
}

/// Calls `visit(parent, name, info)` for everything below, a directory before what is in it.
class Walk {
 public:
  using Visit = std::function<base::Status(int parent, const char* name, const struct stat& info)>;
  explicit Walk(Visit visit) : visit_(std::move(visit)) {}

  base::Status below(int directory, dev_t device, int depth) {
    if (depth > kMaxTreeDepth)
      return Error{ErrorKind::exhausted, fmt::format("it is more than {} directories deep", kMaxTreeDepth)};
    THAW_ASSIGN_OR_RETURN(const std::vector<std::string> names, names_in(directory, kMaxTreeEntries + 1));
    for (const std::string& name : names) {
      struct stat info {};
      if (::fstatat(directory, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno == ENOENT) continue;
        return base::errno_error("cannot look at " + name, errno);
      }
      if (info.st_dev != device) continue;
      if (++entries_ > kMaxTreeEntries)
        return Error{ErrorKind::exhausted, fmt::format("it holds more than {} files", kMaxTreeEntries)};
      THAW_RETURN_IF_ERROR(visit_(directory, name.c_str(), info));
      if (!S_ISDIR(info.st_mode)) continue;
      const Fd inner(::openat(directory, name.c_str(), kOpenFlags));
      if (!inner && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)) continue;  // it is another thing by now
      if (!inner) return base::errno_error("cannot open " + name, errno);
      THAW_RETURN_IF_ERROR(below(inner.get(), device, depth + 1));
    }
    return {};
  }

 private:
  Visit visit_;
  std::uint64_t entries_ = 0;
};

base::Result<Fd> open_top(const std::string& directory, struct stat& info, const char* what) {
  Fd top(::open(directory.c_str(), kOpenFlags));
  if (!top || ::fstat(top.get(), &info) != 0) return walk_error(what, directory, errno);
  return top;
}

/// Empties a directory, a bounded number of names at a time. What lies too deep is first brought up to `top`, under a
/// name that nobody has.
class Emptying {
 public:
  explicit Emptying(int top) : top_(top) {}

  base::Status run() { return empty(top_, 0); }

 private:
  base::Status empty(int directory, int depth) {
    for (;;) {
      THAW_ASSIGN_OR_RETURN(const std::vector<std::string> names, names_in(directory, kNamesAtOnce));
      if (names.empty()) return {};
      if (++rounds_ > kMaxRounds) return Error{ErrorKind::exhausted, "it fills faster than it can be emptied"};
      for (const std::string& name : names) THAW_RETURN_IF_ERROR(remove(directory, name.c_str(), depth));
    }
  }

  base::Status remove(int parent, const char* name, int depth) {
    if (::unlinkat(parent, name, 0) == 0 || errno == ENOENT) return {};
    if (errno != EISDIR && errno != EPERM) return base::errno_error(std::string("cannot remove ") + name, errno);
    if (depth >= kMaxTreeDepth) {
      for (int attempt = 0; attempt < kRaiseAttempts; ++attempt)  // the name may be somebody's already
        if (::renameat(parent, name, top_, fmt::format(".deep-{}", ++raised_).c_str()) == 0 || errno == ENOENT)
          return {};
      return base::errno_error(std::string("cannot remove ") + name, errno);
    }
    const Fd inner(::openat(parent, name, kOpenFlags));
    if (!inner && errno != ENOENT && errno != ENOTDIR && errno != ELOOP)
      return base::errno_error(std::string("cannot open ") + name, errno);
    if (inner) THAW_RETURN_IF_ERROR(empty(inner.get(), depth + 1));
    if (::unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT || errno == ENOTDIR || errno == ENOTEMPTY)
      return {};
    return base::errno_error(std::string("cannot remove ") + name, errno);
  }

  int top_;
  std::uint64_t rounds_ = 0;
  std::uint64_t raised_ = 0;
};

}  // namespace

base::Result<std::uint64_t> tree_bytes(const std::string& directory) {
  struct stat top_info {};
  THAW_ASSIGN_OR_RETURN(const Fd top, open_top(directory, top_info, "measure"));
  std::uint64_t bytes = 0;
  Walk walk([&bytes](int, const char*, const struct stat& info) -> base::Status {
    bytes += static_cast<std::uint64_t>(info.st_blocks) * kBlockBytes;
    return {};
  });
  if (auto walked = walk.below(top.get(), top_info.st_dev, 1); !walked.ok())
    return walked.error().within("cannot measure " + directory);
  return bytes;
}

base::Status give_tree(const std::string& directory, std::uint32_t uid) {
  struct stat top_info {};
  THAW_ASSIGN_OR_RETURN(const Fd top, open_top(directory, top_info, "give away"));
  if (::fchown(top.get(), uid, uid) != 0) return walk_error("give away", directory, errno);
  Walk walk([uid](int parent, const char* name, const struct stat& info) -> base::Status {
    if (info.st_uid == uid && info.st_gid == uid) return {};
    if (::fchownat(parent, name, uid, uid, AT_SYMLINK_NOFOLLOW) == 0 || errno == ENOENT) return {};
    return base::errno_error(std::string("cannot give away ") + name, errno);
  });
  if (auto walked = walk.below(top.get(), top_info.st_dev, 1); !walked.ok())
    return walked.error().within("cannot give away " + directory);
  return {};
}

base::Status empty_foreign_tree(const std::string& directory) {
  const Fd top(::open(directory.c_str(), kOpenFlags));
  if (!top && errno == ENOENT) return {};
  if (!top) return walk_error("empty", directory, errno);
  if (auto emptied = Emptying(top.get()).run(); !emptied.ok())
    return emptied.error().within("cannot empty " + directory);
  return {};
}

base::Status remove_foreign_tree(const std::string& directory) {
  THAW_RETURN_IF_ERROR(empty_foreign_tree(directory));
  if (::rmdir(directory.c_str()) == 0 || errno == ENOENT) return {};
  return walk_error("remove", directory, errno);
}

}  // namespace thaw::node
