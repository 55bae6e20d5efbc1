#include "node/weights/buffered_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fmt/format.h>

namespace thaw::node {
namespace {

constexpr std::size_t kBufferBytes = 256U << 10;

base::Error open_error(const std::string& path, int error_number) {
  base::Error error = base::errno_error("cannot open " + path, error_number);
  if (error_number == ENOENT || error_number == ENOTDIR) error.kind = base::ErrorKind::not_found;
  if (error_number == EACCES || error_number == EPERM) error.kind = base::ErrorKind::denied;
  return error;
}

}  // namespace

BufferedFile::BufferedFile(int fd, std::uint64_t file_bytes, std::uint64_t max_bytes)
    : fd_(fd), file_bytes_(file_bytes), limit_(std::min(file_bytes, max_bytes)), buffer_(std::make_unique_for_overwrite<char[]>(kBufferBytes)) {}

BufferedFile::BufferedFile(BufferedFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      file_bytes_(other.file_bytes_),
      limit_(other.limit_),
      position_(other.position_),
      buffer_(std::move(other.buffer_)),
      buffer_start_(other.buffer_start_),
      buffer_bytes_(other.buffer_bytes_) {}

BufferedFile::~BufferedFile() {
  if (fd_ >= 0) ::close(fd_);
}

base::Result<BufferedFile> BufferedFile::open(const std::string& path, std::uint64_t max_bytes) {
  // O_NONBLOCK: opening a FIFO must not wait for a writer.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return open_error(path, errno);
  struct stat status {};
  if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(fd);
    return base::Error{base::ErrorKind::invalid, "cannot read " + path + ": it is no regular file"};
  }
  return BufferedFile(fd, static_cast<std::uint64_t>(status.st_size), max_bytes);
}

base::Error BufferedFile::too_short(std::uint64_t bytes) const {
  if (limit_ < file_bytes_) {
    return {base::ErrorKind::invalid, fmt::format("the header is longer than {} bytes", limit_)};
  }
  return {base::ErrorKind::invalid,
          fmt::format("{} bytes expected at byte {}, but the file ends at {}: it is incomplete or damaged; fetch it again", bytes, position_,
                      file_bytes_)};
}

base::Status BufferedFile::fill() {
  buffer_start_ = position_;
  buffer_bytes_ = 0;
  ssize_t got = 0;
  do {
    got = ::pread(fd_, buffer_.get(), kBufferBytes, static_cast<off_t>(position_));
  } while (got < 0 && errno == EINTR);
  if (got < 0) return base::errno_error("cannot read", errno);
  if (got == 0) return base::Error{base::ErrorKind::invalid, "the file was cut short while it was read"};
  buffer_bytes_ = static_cast<std::uint64_t>(got);
  return {};
}

base::Status BufferedFile::read(void* into, std::uint64_t bytes) {
  if (bytes > remaining()) return too_short(bytes);
  auto* out = static_cast<char*>(into);
  while (bytes > 0) {
    const bool inside = position_ >= buffer_start_ && position_ < buffer_start_ + buffer_bytes_;
    if (!inside) THAW_RETURN_IF_ERROR(fill());
    const std::uint64_t offset = position_ - buffer_start_;
    const std::uint64_t step = std::min(bytes, buffer_bytes_ - offset);
    std::memcpy(out, buffer_.get() + offset, step);
    out += step;
    position_ += step;
    bytes -= step;
  }
  return {};
}

base::Status BufferedFile::skip(std::uint64_t bytes) {
  if (bytes > remaining()) return too_short(bytes);
  position_ += bytes;
  return {};
}

}  // namespace thaw::node
