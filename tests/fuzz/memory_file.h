#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "fuzz/check.h"

namespace thaw::fuzz {

/// A file that lies in memory and has a path: what a target reads costs no disk.
class MemoryFile {
 public:
  MemoryFile() : fd_(::memfd_create("input", MFD_CLOEXEC)), path_("/proc/self/fd/" + std::to_string(fd_)) { FUZZ_CHECK(fd_ >= 0); }
  ~MemoryFile() { ::close(fd_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }

  /// The file becomes `bytes`, with a hole of `hole_bytes` behind them.
  void assign(std::string_view bytes, std::uint64_t hole_bytes = 0) const {
    FUZZ_CHECK(::ftruncate(fd_, 0) == 0);
    FUZZ_CHECK(::pwrite(fd_, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
    FUZZ_CHECK(::ftruncate(fd_, static_cast<off_t>(bytes.size() + hole_bytes)) == 0);
  }

 private:
  int fd_;
  std::string path_;
};

inline std::string_view text_of(const std::uint8_t* data, std::size_t bytes) {
  return {reinterpret_cast<const char*>(data), bytes};
}

}  // namespace thaw::fuzz
