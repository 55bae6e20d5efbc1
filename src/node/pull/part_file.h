#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "node/sandbox/fd.h"

namespace thaw::node::pull {

/// A file on its way, on the disk. The problem: through the page cache each byte is copied once more and written back at the kernel's leisure, which
/// costs a multiple of the time that the disk needs (docs/decisions/0034). So whole blocks go straight to the disk (O_DIRECT), and only
/// what does not begin or end at a block's boundary goes through the page cache: where a connection was cut, and the end of the file. Where the
/// file system refuses O_DIRECT, everything does.
///
///     [begin ……)[………………… whole blocks …………………)[…… end)
///      buffered          O_DIRECT            buffered
///
/// A byte is to be written once, and write() is for one thread: then no page is dirty while a direct write goes past it. read() is for another.
class PartFile {
 public:
  /// What O_DIRECT wants of offsets, lengths and memory, unless the disk wants still more: then it refuses.
  static constexpr std::uint64_t kAlignBytes = 4096;

  /// Opens or creates it. Errors: exhausted (the disk is full), io.
  static base::Result<PartFile> open(const std::string& path, std::uint64_t expected_bytes);

  PartFile(PartFile&& other) noexcept
      : path_(std::move(other.path_)),
        buffered_(std::move(other.buffered_)),
        direct_fd_(std::move(other.direct_fd_)),
        direct_(other.direct_.load()) {}
  PartFile& operator=(PartFile&&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] int fd() const { return buffered_.get(); }  ///< through the page cache, which keeps up with direct writes
  [[nodiscard]] bool direct() const { return direct_; }

  /// Writes `pieces`, which follow upon each other in the file from `offset` on. Where O_DIRECT is to be used, each piece lies in memory as far from
  /// a multiple of kAlignBytes as it does in the file, and all but the last end at one. Errors: exhausted, io.
  base::Status write(std::span<const std::span<const std::byte>> pieces, std::uint64_t offset);

  /// Reads at least 1 and at most `bytes` at `offset`, which were written. `memory`: aligned to kAlignBytes, 2 * kAlignBytes longer than `bytes`.
  base::Result<std::span<const std::byte>> read(std::span<std::byte> memory, std::uint64_t offset, std::uint64_t bytes);

  /// What was written is there after a power cut.
  base::Status sync();

 private:
  PartFile(std::string path, Fd buffered, Fd direct)
      : path_(std::move(path)), buffered_(std::move(buffered)), direct_fd_(std::move(direct)), direct_(static_cast<bool>(direct_fd_)) {}
  base::Status write_some(std::span<const std::span<const std::byte>> pieces, std::uint64_t skip, std::uint64_t bytes, std::uint64_t offset,
                          bool direct);

  std::string path_;
  Fd buffered_, direct_fd_;
  std::atomic<bool> direct_;  ///< false once it was refused
};

/// Of a write to the part at `path`, which is to have `bytes`: a full disk is exhausted, and says what to do.
base::Error part_error(const std::string& path, std::uint64_t bytes, int number);

}  // namespace thaw::node::pull
