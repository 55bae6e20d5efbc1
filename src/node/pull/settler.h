#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>

#include "base/result.h"
#include "base/time.h"
#include "node/pull/blob_store.h"
#include "node/pull/journal.h"

namespace thaw::node::pull {

/// The problem: a file is whole only when its last byte is on the disk and its digest is right, and doing all of that after
/// the last byte came would double the time. Beside the connections, on a thread of its own, this one hashes what has come
/// without a gap from the beginning on, has the disk begin to write, and from time to time makes durable what is there
/// and says so in the journal. One file; arrived() and finish() from one thread.
class Settler {
 public:
  static constexpr std::uint64_t kJournalBytes = 128ULL << 20;  ///< new ones, before the journal is written again
  static constexpr base::Duration kJournalInterval = base::Seconds(2);

  /// `fd`: of the part, open for reading and writing, outliving this. `journal`: its ranges are there already. `resumable`: else no journal is kept.
  Settler(int fd, BlobStore& store, std::string key, Journal journal, bool resumable);
  /// Writes the journal once more, unless it was finished.
  ~Settler();
  Settler(const Settler&) = delete;
  Settler& operator=(const Settler&) = delete;

  void arrived(Range range);
  [[nodiscard]] RangeSet have() const;
  /// A failure of the disk, as soon as there is one.
  [[nodiscard]] base::Status status() const;

  /// All of its `total_bytes` have arrived: waits until they are durable. The SHA-256.
  base::Result<std::string> finish(std::uint64_t total_bytes);

 private:
  void run();
  base::Status hash_up_to(std::uint64_t end);
  base::Status write_journal();

  const int fd_;
  BlobStore& store_;
  const std::string key_;
  const bool resumable_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Journal journal_;  ///< but for its ranges
  RangeSet have_;
  base::Status status_;
  bool ending_ = false;
  bool finishing_ = false;
  std::uint64_t total_bytes_ = 0;  ///< when finishing
  std::string sha256_;
  struct Hash;
  std::unique_ptr<Hash> hash_;  ///< the rest is the thread's
  std::uint64_t hashed_ = 0;
  std::uint64_t begun_to_write_ = 0;
  std::uint64_t durable_bytes_ = 0;
  std::thread thread_;
};

}  // namespace thaw::node::pull
