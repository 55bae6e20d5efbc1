#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/result.h"

namespace thaw::cli {

/// Owns a file descriptor; closes it. -1: none.
class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  ~FileDescriptor();
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

/// The whole of a file. ErrorKind::not_found when it is not there, invalid when it is longer than max_bytes or a
/// directory.
base::Result<std::string> read_text_file(const std::string& path, std::size_t max_bytes);

/// Reads a descriptor to its end, e.g. standard input. `name` is for errors. Blocking; not closed.
base::Result<std::string> read_to_end(int fd, const std::string& name, std::size_t max_bytes);

/// Writes all of `text`, however often the kernel takes only a part. `name` is for errors.
base::Status write_all(int fd, std::string_view text, const std::string& name);

}  // namespace thaw::cli
