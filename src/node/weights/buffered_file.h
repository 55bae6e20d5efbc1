#pragma once

#include <cstdint>
#include <memory>
#include <string>


#include "base/result.h"

namespace thaw::node {

/// Reads a file forwards in big steps, and never past a bound. Uses pread and not a mapping: a file that is cut short meanwhile is an error,
/// not a SIGBUS. Owns its descriptor; one thread.
class BufferedFile {
 public:
  /// Regular files only. `max_bytes`: reading further is an error. Errors: not_found, denied, io, invalid.
  static base::Result<BufferedFile> open(const std::string& path, std::uint64_t max_bytes);

  BufferedFile(BufferedFile&& other) noexcept;
  BufferedFile& operator=(BufferedFile&&) = delete;
  BufferedFile(const BufferedFile&) = delete;
  BufferedFile& operator=(const BufferedFile&) = delete;
  ~BufferedFile();

  [[nodiscard]] std::uint64_t position() const { return position_; }
  [[nodiscard]] std::uint64_t file_bytes() const { return file_bytes_; }
  /// Bytes that can still be read.
  [[nodiscard]] std::uint64_t remaining() const { return limit_ - position_; }

  base::Status read(void* into, std::uint64_t bytes);
  base::Status skip(std::uint64_t bytes);

 private:
  BufferedFile(int fd, std::uint64_t file_bytes, std::uint64_t max_bytes);
  base::Status fill();
  [[nodiscard]] base::Error too_short(std::uint64_t bytes) const;

  int fd_ = -1;
  std::uint64_t file_bytes_ = 0;
  std::uint64_t limit_ = 0;
  std::uint64_t position_ = 0;
  std::unique_ptr<char[]> buffer_;
  std::uint64_t buffer_start_ = 0;  ///< the file position of buffer_[0]
  std::uint64_t buffer_bytes_ = 0;
};

}  // namespace thaw::node
