#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/time.h"

/// The problem: an engine that maps or reads its model waits for the disk page by page, at a fraction of the disk's rate, and only once it has
/// initialised. Whoever starts it knows the files long before: read into the page cache by several threads meanwhile, the engine finds
/// them there. (O_DIRECT would pass the page cache by; a copy in tmpfs, while it is written, would show zeros to an engine that maps it.)
namespace thaw::node {

/// How far one fill has come. The bytes are known once the kernel has been asked what is there, moments after the beginning.
struct FillProgress {
  std::uint64_t total_bytes = 0;
  std::uint64_t resident_bytes = 0;  ///< of them in the page cache when it began: nothing to read
  std::uint64_t read_bytes = 0;      ///< that were missing then and have come in
  std::uint64_t left_bytes = 0;      ///< left to the engine: there is no memory for them
  base::TimePoint first_read;        ///< of read_bytes; both meaningless while that is 0
  base::TimePoint last_read;
  bool done = false;                 ///< nothing more will happen: all is there, or it failed, or was cancelled

  [[nodiscard]] double bytes_per_s() const;
};

/// What a filler has done since it was made.
struct FillTotals {
  std::uint64_t under_way = 0;       ///< fills now
  std::uint64_t read_bytes = 0;
  std::uint64_t resident_bytes = 0;  ///< of what was asked for: found in the page cache
  std::uint64_t left_bytes = 0;      ///< left to engines for lack of memory
};

class PageFiller;

/// MemAvailable of /proc/meminfo: free memory, and what the kernel can reclaim without swapping. UINT64_MAX when it does not say.
std::uint64_t available_memory_bytes();

/// One's share in a fill under way. Destroying it cancels it. May outlive its filler.
class FillHandle {
 public:
  FillHandle();  ///< of no fill: done at once
  FillHandle(FillHandle&&) noexcept;
  FillHandle& operator=(FillHandle&&) noexcept;
  FillHandle(const FillHandle&) = delete;
  FillHandle& operator=(const FillHandle&) = delete;
  ~FillHandle();

  [[nodiscard]] FillProgress progress() const;
  /// What has not been read yet will not be, unless others want the same files. Does not wait: chunks in flight still come in, and a FillDone that
  /// is being called goes on.
  void cancel() noexcept;

 private:
  friend class PageFiller;
  struct Ledger;
  struct Job;
  FillHandle(std::shared_ptr<Job> job, std::uint64_t id);

  std::shared_ptr<Job> job_;
  std::uint64_t id_ = 0;  ///< among the job's users; 0: cancelled
};

/// Called once with the last numbers when a fill ends by itself; not when it is cancelled, and not by a filler that ends. On a worker's thread, which
/// holds no lock: it may wait for others', but not for long.
using FillDone = std::function<void(const FillProgress&)>;

/// Reads files into the page cache. A few worker threads take turns: kChunkBytes of one fill, then of another. Every other turn goes to the fill that
/// has the least left, the rest go round: a small model is not stuck behind a huge one, nor that one behind many small ones. A fill goes through
/// its files in their order and from front to back, unless their headers say that an engine needs them in another (need_order.h).
/// Bytes go nowhere but into the page cache (page_cache_read.h): a worker needs neither a buffer nor much processor time.
/// First it asks the kernel what is there already, one call a file where that is all or nothing, and reads only chunks that lack something.
/// Whoever wants the same files while they are being filled joins that fill.
/// Bounds: never more than the memory that is available when a fill begins, less what others under way still have to read (what does not fit would
/// push out what has just come in); kMaxFills at once, more are left to their engines. Thread-safe.
class PageFiller {
 public:
  static constexpr std::uint64_t kChunkBytes = 2ULL << 20;  ///< a huge page
  static constexpr std::size_t kMaxFills = 1'000;

  /// 2 on small machines, 4 on others: that many keep a disk busy, and the engine's own start needs the processors too.
  static unsigned default_workers();

  using AvailableMemory = std::function<std::uint64_t()>;  ///< bytes that the kernel could hand out without swapping

  explicit PageFiller(unsigned workers = default_workers(), AvailableMemory available = available_memory_bytes);
  /// Ends every fill.
  ~PageFiller();
  PageFiller(const PageFiller&) = delete;
  PageFiller& operator=(const PageFiller&) = delete;

  /// Begins at once, in the background; never blocks, and touches no file itself. What cannot be read is left out: it is for the engine to complain
  /// of it.
  [[nodiscard]] FillHandle fill(const std::vector<std::string>& files, FillDone done = {});

  [[nodiscard]] FillTotals totals() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace thaw::node
