#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "node/pull/blob_store.h"
#include "node/pull/block_table.h"
#include "node/pull/journal.h"
#include "node/pull/part_file.h"

namespace thaw::node::pull {

/// The problem: a file is whole only when its last byte is on the disk and its digest is right, and doing all of that after
/// the last byte came would double the time. So it is done beside the connections, on two threads: one writes what has come to the disk and from time
/// to time says in the journal what is durable, the other hashes it from the file's beginning on, out of the same memory.
///
///     connections ──take()──► blocks in memory ─┬─► writer ──► disk, journal
///                                               └─► hasher, in order ──► SHA-256
///
/// The memory is bounded. When all of it is taken, what is on the disk and will be hashed last is dropped, and read again when its turn comes:
/// so one slow connection at the front does not hold the others up. When nothing is on the disk yet, take() waits for the disk.
/// One file; take(), hand_over() and finish() from one thread.
class Settler {
 public:
  static constexpr std::size_t kBlocks = 128;  ///< 128 MiB
  static constexpr base::Duration kJournalInterval = base::Seconds(2);
  static constexpr base::Duration kHoldAtMost = base::Seconds(1);  ///< what a slow connection brought

  struct Options {
    std::size_t blocks = kBlocks;
    std::size_t connections = 1;  ///< at once; there are always more blocks than these
    bool resumable = false;       ///< else no journal is kept
  };

  /// `file` outlives this. `journal`: its ranges are there already.
  static base::Result<std::unique_ptr<Settler>> make(PartFile& file, BlobStore& store, std::string key, Journal journal, const Options& options);
  /// Writes what was handed over, and the journal once more, unless it was finished.
  ~Settler();
  Settler(const Settler&) = delete;
  Settler& operator=(const Settler&) = delete;

  /// A connection's next bytes, which belong at `at`: where its last ones ended. `open`: the block that it is filling, null at first. `end`: of what
  /// the connection is going to bring. May wait for the disk. Errors: the disk's.
  base::Status take(Block*& open, std::uint64_t at, std::string_view bytes, std::uint64_t end);
  /// Nothing more comes from this connection.
  void hand_over(Block*& open);
  /// Hands over what has been kept for kHoldAtMost, so that it becomes durable.
  void hand_over_old(Block*& open, base::TimePoint time);

  [[nodiscard]] RangeSet have() const;  ///< handed over, or there from before
  [[nodiscard]] std::uint64_t have_bytes() const;
  /// A failure of the disk, as soon as there is one.
  [[nodiscard]] base::Status status() const;

  /// All of its `total_bytes` were handed over: waits until they are durable and hashed. The SHA-256.
  base::Result<std::string> finish(std::uint64_t total_bytes);

 private:
  Settler(PartFile& file, BlobStore& store, std::string key, Journal journal, bool resumable, BlockTable blocks);
  base::Status open_block(Block*& open, std::uint64_t at);
  void fail(const base::Status& status);
  void write_all();
  void write(std::unique_lock<std::mutex>& lock, const std::vector<Block*>& run);
  void write_journal(std::unique_lock<std::mutex>& lock);
  void hash_all();
  void hash(std::unique_lock<std::mutex>& lock, Block& block);
  [[nodiscard]] std::optional<Range> to_read_back() const;
  void read_back(std::unique_lock<std::mutex>& lock, Range range);

  PartFile& file_;
  BlobStore& store_;
  const std::string key_;
  const bool resumable_;
  mutable std::mutex mutex_;
  std::condition_variable to_write_, to_hash_, freed_, done_;
  Journal journal_;  ///< but for its ranges
  BlockTable blocks_;
  RangeSet have_, written_;
  base::Status status_;
  bool ending_ = false;
  bool finishing_ = false;
  std::uint64_t total_bytes_ = 0;  ///< when finishing
  bool durable_ = false;           ///< all of it
  std::string sha256_;
  struct Hash;
  std::unique_ptr<Hash> hash_;         ///< the hasher's
  std::uint64_t hashed_ = 0;           ///< likewise
  std::uint64_t journaled_bytes_ = 0;  ///< the writer's, and the two below
  base::TimePoint journaled_at_{};
  bool sync_failed_ = false;  ///< what the disk has is not known any more
  std::thread writer_, hasher_;
};

}  // namespace thaw::node::pull
