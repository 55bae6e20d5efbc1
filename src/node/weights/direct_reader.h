#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/time.h"

/// The problem: weights on their way to a device's memory gain nothing from the page cache; copying them there costs
/// processor time and pushes out what is of use. Read straight from the disk (O_DIRECT) into memory that the caller
/// owns, with many large reads under way at once, they come at the rate of the disk.
namespace thaw::node {

class ReadQueue;

/// How a disk is read best. disk_calibration.h finds out.
struct ReadSettings {
  static constexpr std::uint64_t kMinChunkBytes = 4096;
  static constexpr std::uint64_t kMaxChunkBytes = 64ULL << 20;
  static constexpr std::uint32_t kMaxDepth = 128;

  std::uint64_t chunk_bytes = 1ULL << 20;  ///< of one read; a multiple of 4096
  std::uint32_t depth = 8;                 ///< reads under way at once

  [[nodiscard]] std::uint64_t memory_bytes() const { return chunk_bytes * depth; }
  [[nodiscard]] bool in_range() const;
  bool operator==(const ReadSettings&) const = default;
};

/// A part of a file. `offset` must be a multiple of 4096.
struct ReadRange {
  std::string path;
  std::uint64_t offset = 0;
  std::uint64_t bytes = UINT64_MAX;  ///< as far as the file goes
};

/// Bytes that have arrived; the memory is read into again once the sink returns, or the slot is released.
struct ReadChunk {
  std::size_t range = 0;     ///< which of the ranges
  std::uint64_t offset = 0;  ///< in its file
  std::span<const std::byte> bytes;
  unsigned slot = 0;  ///< which of the memory's chunks they lie in
};

struct ReadReport {
  std::uint64_t bytes = 0;
  std::uint64_t buffered_bytes = 0;  ///< of ranges that direct I/O was refused for
  base::Duration duration{};
  [[nodiscard]] double bytes_per_s() const;
};

/// Reads ranges of files, several at once in turns (shards lie on different disks, or not), and hands each chunk over
/// as it arrives: in no particular order. Where direct I/O is refused (some network and stacked file systems) it reads
/// through the page cache, and where io_uring is, by threads; either is said once in the log, not once for each load.
/// One thread: the one that opened it.
class DirectReader {
 public:
  static constexpr std::size_t kMaxRanges = 4096;
  /// Takes a chunk; an error ends the read. Called on the reading thread, and what it costs is time in which no new
  /// read begins for that slot only.
  using Sink = std::function<base::Status(const ReadChunk&)>;

  /// `memory`: settings.memory_bytes() at least, page-aligned (ReadMemory is), the caller's; must outlive the reader.
  /// `with_ring`: false reads by threads as where io_uring is refused. Errors: invalid (settings out of range).
  static base::Result<std::unique_ptr<DirectReader>> open(const ReadSettings& settings, std::span<std::byte> memory,
                                                          bool with_ring = true);
  /// Makes what carries the reads out, given the memory of each slot; how tests put failures in.
  using MakeQueue = std::function<base::Result<std::unique_ptr<ReadQueue>>(const std::vector<std::span<std::byte>>&)>;
  static base::Result<std::unique_ptr<DirectReader>> open_with(const ReadSettings& settings,
                                                               std::span<std::byte> memory,
                                                               const MakeQueue& make_queue);
  ~DirectReader();
  DirectReader(const DirectReader&) = delete;
  DirectReader& operator=(const DirectReader&) = delete;

  /// Blocking. Errors: not_found, denied, io (with file and place), invalid (no regular file, unaligned, too many
  /// ranges, or a file that was cut short meanwhile), or the sink's. On an error nothing is written to the memory any
  /// more, and some chunks may have been handed over; but where the kernel does not even say when reads end ("cannot
  /// wait for reads"), the memory is lost to it and the reader good for nothing more. Ranges of one path share a
  /// descriptor.
  base::Result<ReadReport> read(const std::vector<ReadRange>& ranges, const Sink& sink);

  // The same in steps, for who needs a chunk's memory longer than for a call: while a device still copies from it,
  // reads into the others go on.

  /// Begins reads into all slots. `in_turns`: how many of the ranges are read at once; the others follow in their
  /// order.
  base::Status begin(const std::vector<ReadRange>& ranges, std::size_t in_turns = kMaxRanges);
  /// Waits for the next chunk and leaves its slot alone until it is released. Nothing: no read is under way, since all
  /// have been handed over (finished()), or since no slot is free.
  base::Result<std::optional<ReadChunk>> next();
  /// A slot whose chunk is no longer needed; a read into it begins if there is something left to read.
  void release(unsigned slot);
  [[nodiscard]] bool finished() const;
  /// So far.
  [[nodiscard]] ReadReport report() const;
  /// Waits for the reads under way and drops what they bring, also after an error: then the memory is the caller's
  /// again, unless this says that it is lost (see above).
  base::Status end();

 private:
  struct Impl;
  explicit DirectReader(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace thaw::node
