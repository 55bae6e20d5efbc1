#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "node/sandbox/fd.h"

namespace thaw::node {

/// What O_DIRECT wants of offsets, lengths and memory: the disk's block size, which hardly ever is more than this. A
/// disk that wants more refuses, and is read through the page cache.
constexpr std::uint64_t kDirectAlignBytes = 4096;

/// A regular file, open for direct reads, or for reads through the page cache where its file system refuses those.
/// Movable; any one thread.
class DirectFile {
 public:
  /// Never waits for a FIFO's writer. Errors: not_found, denied, io, invalid (no regular file).
  static base::Result<DirectFile> open(const std::string& path);

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] bool direct() const { return direct_; }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }  ///< when it was opened
  /// Asks again: it may have been cut short. 0 when there is no answer.
  [[nodiscard]] std::uint64_t bytes_now() const;

  /// From now on through the page cache, in the same descriptor: reads under way keep it. Says so in the log, once for
  /// each file system.
  void go_buffered(const std::string& why);

 private:
  std::string path_;
  Fd fd_;
  bool direct_ = false;
  std::uint64_t bytes_ = 0;
  std::uint64_t device_ = 0;
};

/// Whether errno of an open or a read means: not with O_DIRECT.
bool refuses_direct(int number);

/// "WHAT PATH: errno's text", of the kind that it is.
base::Error file_error(const std::string& what, const std::string& path, int number);

}  // namespace thaw::node
