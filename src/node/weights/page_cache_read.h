#pragma once

#include <cstdint>

#include "node/sandbox/fd.h"

/// The problem: bytes that are to go into the page cache and nowhere else should cost no copy, few page-sized steps,
/// and not depend on how far the machine happens to read ahead. docs/decisions/0009 has the ways that were tried.
namespace thaw::node {

enum class PageCacheWay {
  best,  ///< map where the kernel can (5.18, with huge pages), else read
  map,
  sendfile,
};

/// Reads parts of files into the page cache. Thread-safe. Blocking.
///  map: maps the part, asks for huge pages, and has the kernel fault it in (MADV_POPULATE_READ). The fault handler
///    then reads 2 MiB at once whatever the disk's read_ahead_kb is, into one 2 MiB page where the file system has
///    large folios: 0.01 s of processor time a GB, and an engine that maps the file later takes one page fault where it
///    would take 32, and one TLB entry for 512. Nothing touches the mapping: a file that is cut short is no SIGBUS.
///  sendfile: asks for the part (readahead), then moves references to its pages to /dev/null, which waits for them.
class PageCacheReader {
 public:
  explicit PageCacheReader(PageCacheWay way = PageCacheWay::best);

  /// False when nothing can be read, with errno.
  [[nodiscard]] bool usable() const { return static_cast<bool>(null_fd_); }
  /// Brings [offset, offset + bytes) in; `offset` is a multiple of 2 MiB, or a huge page is no use. Worker threads must
  /// not share a descriptor: the kernel's readahead follows it. False with errno when it cannot; a file that has become
  /// shorter is no failure.
  [[nodiscard]] bool bring_in(int fd, std::uint64_t offset, std::uint64_t bytes) const;

 private:
  bool mapping_;
  Fd null_fd_;
};

}  // namespace thaw::node
