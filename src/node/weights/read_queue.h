#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"

/// The problem: a fast disk is busy only while many reads are under way at once. This is such a set of reads, each into a buffer of its own.
namespace thaw::node {

/// One read that has ended.
struct ReadCompletion {
  unsigned slot = 0;
  std::int64_t result = 0;  ///< bytes, or -errno
};

/// Reads under way, at most one a slot. One thread, the one that made it. The slots' memory must outlive it.
class ReadQueue {
 public:
  virtual ~ReadQueue() = default;
  /// Begins a read at `offset` of `fd` into the slot's memory at `from`, which must be free.
  virtual void begin(unsigned slot, std::uint64_t from, int fd, std::uint64_t offset, std::uint64_t bytes) = 0;
  /// Waits for the next read to end; only while one is under way.
  virtual base::Result<ReadCompletion> wait() = 0;
};

using ReadSlots = std::vector<std::span<std::byte>>;

/// io_uring with registered buffers: the kernel pins and maps them once and not for each read. Unregistered where the limit on locked
/// memory forbids it. Fails where io_uring is not to be had (the kernel is old, or it is forbidden).
base::Result<std::unique_ptr<ReadQueue>> make_ring_queue(const ReadSlots& slots);

/// A few threads that call pread(), for where io_uring is refused.
std::unique_ptr<ReadQueue> make_thread_queue(const ReadSlots& slots);

}  // namespace thaw::node
