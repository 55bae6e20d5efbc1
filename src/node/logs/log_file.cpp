#include "node/logs/log_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "node/logs/tail.h"

namespace thaw::node {
namespace {

constexpr std::uint64_t kMinBytes = 4096;
constexpr mode_t kMode = 0640;

int open_for_append(const std::string& path, int extra_flags) {
  return ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | extra_flags, kMode);
}

/// The last `bytes` before `end` of an open file.
std::string read_tail(int fd, std::uint64_t end, std::size_t bytes) {
  const std::uint64_t start = end > bytes ? end - bytes : 0;
  std::string text(end - start, '\0');
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t got = ::pread(fd, text.data() + done, text.size() - done, static_cast<off_t>(start + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    done += static_cast<std::size_t>(got);
  }
  text.resize(done);
  return text;
}

/// `text` without the rest of a line at its beginning, if a whole line follows.
std::string from_line_start(std::string text) {
  const std::size_t newline = text.find('\n');
  if (newline != std::string::npos && newline + 1 < text.size()) text.erase(0, newline + 1);
  return text;
}

}  // namespace

std::string tail_over_files(const std::string& path, int fd, std::uint64_t end, std::size_t bytes) {
  // One byte more is read, to see whether the tail begins at a line's start.
  std::string text = fd >= 0 ? read_tail(fd, end, bytes + 1) : std::string();
  if (text.size() < bytes + 1) {
    const int older = ::open((path + ".1").c_str(), O_RDONLY | O_CLOEXEC);
    if (older >= 0) {
      struct stat status {};
      if (::fstat(older, &status) == 0) {
        text.insert(0, read_tail(older, static_cast<std::uint64_t>(status.st_size), bytes + 1 - text.size()));
      }
      ::close(older);
    }
  }
  if (text.size() <= bytes) return text;
  text = from_line_start(std::move(text));
  if (text.size() > bytes) text.erase(0, text.size() - bytes);
  return text;
}

std::string log_tail(const std::string& path, std::size_t bytes) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat status {};
  const bool sized = fd >= 0 && ::fstat(fd, &status) == 0;
  std::string text = tail_over_files(path, fd, sized ? static_cast<std::uint64_t>(status.st_size) : 0, bytes);
  if (fd >= 0) ::close(fd);
  return text;
}

LogFile::LogFile(std::string path, std::uint64_t half_bytes, int fd, std::uint64_t size_bytes)
    : path_(std::move(path)), half_bytes_(half_bytes), fd_(fd), size_bytes_(size_bytes) {}

LogFile::LogFile(LogFile&& other) noexcept
    : path_(std::move(other.path_)),
      half_bytes_(other.half_bytes_),
      fd_(std::exchange(other.fd_, -1)),
      size_bytes_(other.size_bytes_) {}

LogFile& LogFile::operator=(LogFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(half_bytes_, other.half_bytes_);
  std::swap(fd_, other.fd_);
  std::swap(size_bytes_, other.size_bytes_);
  return *this;
}

LogFile::~LogFile() {
  if (fd_ >= 0) ::close(fd_);
}

base::Result<LogFile> LogFile::open(const std::string& path, std::uint64_t max_bytes) {
  std::error_code ignored;  // a directory that cannot be made shows in open()
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
  const int fd = open_for_append(path, 0);
  if (fd < 0) return base::errno_error("cannot open log " + path, errno);
  struct stat status {};
  if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(fd);
    return base::Error{base::ErrorKind::invalid, "cannot open log " + path + ": it is no regular file"};
  }
  return LogFile(path, std::max(max_bytes, kMinBytes) / 2, fd, static_cast<std::uint64_t>(status.st_size));
}

void LogFile::write_whole(std::string_view text) {
  while (!text.empty() && fd_ >= 0) {
    const ssize_t written = ::write(fd_, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;  // disk full: an engine must not stop because its log cannot be kept
    size_bytes_ += static_cast<std::uint64_t>(written);
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

void LogFile::rotate() {
  if (fd_ >= 0) ::close(fd_);
  // Where renaming is refused the bound still holds: the file is emptied instead.
  const bool renamed = std::rename(path_.c_str(), (path_ + ".1").c_str()) == 0;
  fd_ = open_for_append(path_, renamed ? O_EXCL : O_TRUNC);
  size_bytes_ = 0;
}

void LogFile::append(std::string_view text) {
  if (fd_ < 0) fd_ = open_for_append(path_, 0);
  while (!text.empty()) {
    const std::uint64_t room = size_bytes_ < half_bytes_ ? half_bytes_ - size_bytes_ : 0;
    if (text.size() <= room) return write_whole(text);
    const std::size_t newline = room == 0 ? std::string_view::npos : text.rfind('\n', room - 1);
    std::size_t cut = newline == std::string_view::npos ? 0 : newline + 1;
    if (cut == 0 && size_bytes_ == 0) cut = room;  // one line that no file could hold
    write_whole(text.substr(0, cut));
    text.remove_prefix(cut);
    rotate();
  }
}

std::string LogFile::tail(std::size_t bytes) const { return log_tail(path_, bytes); }

}  // namespace thaw::node
