#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "node/weights/read_memory.h"

namespace thaw::node::pull {

/// Bytes [begin, end) of a file in memory, never across a multiple of BlockTable::kBlockBytes of the file. One connection fills it from front to
/// back; from hand_over() on it does not change.
struct Block {
  std::byte* memory = nullptr;  ///< of kBlockBytes; that of the file's next lower multiple of kBlockBytes
  std::uint64_t begin = 0, end = 0;
  base::TimePoint since{};  ///< first byte
  bool handed_over = false, writing = false, written = false, hashing = false, hashed = false;

  [[nodiscard]] std::span<const std::byte> bytes() const;
  /// Where the byte at `end` goes.
  [[nodiscard]] std::byte* free() const;
  /// Behind the last byte that it has room for.
  [[nodiscard]] std::uint64_t limit() const;
};

/// Which parts of a file on its way are in memory, and what has become of each: a block is free again when it is on the disk and was hashed. There
/// are as many as there were at the beginning; a page of their memory is taken when it is first used, and the one that was freed last is used first.
/// Bookkeeping only; not thread-safe.
class BlockTable {
 public:
  static constexpr std::uint64_t kBlockBytes = 1ULL << 20;
  static constexpr std::size_t kLongestRun = 8;

  /// Errors: io (there is no memory).
  static base::Result<BlockTable> make(std::size_t blocks);

  /// An empty one for what begins at `at`; null when none is free.
  Block* open(std::uint64_t at);
  /// It is filled as far as it is going to be.
  void hand_over(Block& block);

  /// What is to be written next, at once: the first in the file, since it is what is hashed first, and what follows upon it, up to kLongestRun.
  /// Empty: nothing. They count as being written.
  std::vector<Block*> next_run();
  void written(const std::vector<Block*>& run);  ///< nobody may have them after this

  /// The one that begins there, if it was handed over.
  Block* find(std::uint64_t begin);
  /// Where the first one at or after `at` begins.
  [[nodiscard]] std::optional<std::uint64_t> next_begin(std::uint64_t at) const;
  void hashed(Block& block);  ///< nobody may have it after this

  /// Frees the one that is on the disk and will be hashed last. False: none is on the disk.
  bool drop_furthest();
  [[nodiscard]] std::size_t free_blocks() const { return free_.size(); }

 private:
  explicit BlockTable(ReadMemory memory) : memory_(std::move(memory)) {}
  void release(Block& block);

  ReadMemory memory_;
  std::vector<std::byte*> free_;
  std::map<std::uint64_t, Block> blocks_;  ///< by begin
};

}  // namespace thaw::node::pull
