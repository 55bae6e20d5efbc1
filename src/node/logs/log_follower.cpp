#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "node/logs/log_file.h"
#include "node/logs/tail.h"

namespace thaw::node {
namespace {

constexpr std::size_t kMaxReadBytes = 256U << 10;
constexpr int kMaxAttempts = 8;  // how often the files may be rotated under a reader's feet within one call
constexpr const char* kGap = "[thaw: the log was rotated faster than it was read; lines may be missing here]\n";

struct Opened {
  int fd = -1;
  ino_t inode = 0;
  std::uint64_t size_bytes = 0;
};

Opened open_log(const std::string& path) {
  Opened result;
  result.fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat status {};
  if (result.fd >= 0 && ::fstat(result.fd, &status) == 0) {
    result.inode = status.st_ino;
    result.size_bytes = static_cast<std::uint64_t>(status.st_size);
  }
  return result;
}

ino_t inode_of(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 ? status.st_ino : 0;
}

}  // namespace

LogFollower::LogFollower(std::string path, std::size_t tail_bytes) : path_(std::move(path)) {
  for (int attempt = 0; attempt < kMaxAttempts; ++attempt) {
    const Opened log = open_log(path_);
    if (log.fd < 0) return;
    std::string tail = tail_over_files(path_, log.fd, log.size_bytes, tail_bytes);
    if (inode_of(path_) != log.inode && attempt + 1 < kMaxAttempts) {  // rotated meanwhile: PATH.1 was perhaps another
      ::close(log.fd);
      continue;
    }
    pending_ = std::move(tail);
    fd_ = log.fd;
    inode_ = log.inode;
    ::lseek(fd_, static_cast<off_t>(log.size_bytes), SEEK_SET);
    return;
  }
}

LogFollower::LogFollower(LogFollower&& other) noexcept
    : path_(std::move(other.path_)),
      pending_(std::move(other.pending_)),
      fd_(std::exchange(other.fd_, -1)),
      inode_(other.inode_) {}

LogFollower::~LogFollower() {
  if (fd_ >= 0) ::close(fd_);
}

void LogFollower::read_open_file(std::string& text) {
  std::array<char, 16384> chunk{};
  while (text.size() < kMaxReadBytes) {
    const ssize_t got = ::read(fd_, chunk.data(), std::min(chunk.size(), kMaxReadBytes - text.size()));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return;
    text.append(chunk.data(), static_cast<std::size_t>(got));
  }
}

/// Opens the file that follows the one just read. False when that is not there (yet).
bool LogFollower::open_next() {
  const ino_t older = inode_of(path_ + ".1");
  // The usual case: what was read is PATH.1 now, and PATH is its successor (there was no log at all: no PATH.1 either). Otherwise PATH.1 is the
  // oldest there is, and what was read is gone.
  const bool one_rotation = older == inode_;
  const Opened next = open_log(one_rotation ? path_ : path_ + ".1");
  if (next.fd < 0) return false;
  if (one_rotation && inode_of(path_ + ".1") != inode_) {  // rotated again between the two looks
    ::close(next.fd);
    return false;
  }
  if (!one_rotation && inode_ != 0) pending_ = kGap;
  if (fd_ >= 0) ::close(fd_);
  fd_ = next.fd;
  inode_ = next.inode;
  return true;
}

std::string LogFollower::read_more() {
  std::string text = std::exchange(pending_, {});
  for (int attempt = 0; attempt < kMaxAttempts && text.size() < kMaxReadBytes; ++attempt) {
    if (fd_ < 0) {
      if (!open_next()) return text;
      continue;
    }
    read_open_file(text);
    if (text.size() >= kMaxReadBytes) return text;
    const ino_t current = inode_of(path_);
    if (current == inode_ || current == 0) return text;
    // Rotated: nothing is written to the old file any more, but something may have been since the read above.
    read_open_file(text);
    if (text.size() >= kMaxReadBytes) return text;
    if (open_next()) text += std::exchange(pending_, {});
  }
  return text;
}

}  // namespace thaw::node
