#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "base/time.h"
#include "store/usage_slot.h"

namespace thaw::store {

/// The problem: a request's usage must be on record from before it reaches a replica until it is in the database, also when the process is killed
/// in between, and the request must not wait for that.
///
/// A file of fixed slots is mapped into memory. begin() fills a slot before the request is dispatched, close() completes it, a thread of the
/// journal's own moves closed ones into the sink in groups and frees them. What was stored into the mapping outlives the process; it is written to
/// the disk by the kernel when it likes, so that a power cut may lose the last seconds. At the next open(), slots that are still open become rows with
/// UsageOutcome::interrupted.
///
///     free ──begin()──► open ──close()──► closed ──the thread, once the sink has it──► free
///                        └── found by open() ──► closed as interrupted
///
/// begin(), dispatched() and close() belong to one thread (the gateway's loop) and cost tens of nanoseconds. When no slot is free (the disk of the
/// sink is full or hangs, and all slots have filled up since), begin() gives none: the request goes on, its row is lost and counted.
/// The destructor moves what is closed; what cannot be moved stays in the file for the next open().
class UsageJournal {
 public:
  using Slot = std::uint32_t;
  static constexpr Slot kNone = UINT32_MAX;

  struct Options {
    std::string path;
    std::uint32_t slots = 65'536;  ///< 256 bytes each, allocated on the disk beforehand; of a file that exists: as many as it has
    base::Duration group_interval = base::Millis(100);
    base::Duration retry_interval = base::Seconds(1);  ///< after the sink failed
    std::function<std::int64_t()> unix_ms;             ///< the wall clock
    std::function<void(const std::string&)> warn;      ///< told, on the journal's thread, of what an operator must see; may be empty
  };

  /// Makes the file or goes on with it. ErrorKind::conflict: another process uses it. A file that is no journal is moved aside, and said.
  static base::Result<std::unique_ptr<UsageJournal>> open(Options options, UsageSink& sink);
  ~UsageJournal();
  UsageJournal(const UsageJournal&) = delete;
  UsageJournal& operator=(const UsageJournal&) = delete;

  /// kNone when all slots are taken; the calls below then do nothing.
  Slot begin(const UsageOpening& opening);
  void dispatched(Slot slot);
  void close(Slot slot, const UsageClosing& closing);

  /// Returns when all that was closed before is in the sink, or with the error why it is not yet. Any thread.
  base::Status flush();

  // Any thread, since the start:
  [[nodiscard]] std::uint64_t lost() const;         ///< requests that got no slot, and found slots that were damaged
  [[nodiscard]] std::uint64_t moved() const;        ///< rows given to the sink
  [[nodiscard]] std::uint64_t interrupted() const;  ///< rows that open() found still open

 private:
  struct Impl;
  explicit UsageJournal(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace thaw::store
