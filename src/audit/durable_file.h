#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace thaw::audit {

/// Owns a file descriptor. -1: none.
class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  ~Fd() { reset(); }
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  [[nodiscard]] int get() const { return fd_; }
  void reset(int fd = -1);

 private:
  int fd_;
};

/// The whole of a file. ErrorKind::not_found when it is not there, invalid when it is longer.
base::Result<std::string> read_small_file(const std::string& path, std::size_t max_bytes);

/// Puts `text` in the place of what is there, in one step and durably: a reader, or a power cut, finds the old file or
/// the new one.
base::Status replace_file(const std::string& path, std::string_view text, mode_t mode);

/// Writes all of it.
base::Status write_all(int fd, std::string_view text, const std::string& path);

/// Makes names that were added to or removed from a directory durable.
base::Status sync_directory(const std::string& path);

}  // namespace thaw::audit
