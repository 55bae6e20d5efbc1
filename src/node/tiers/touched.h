#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace thaw::node {

struct FileRange {
  std::string path;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

/// Parts of these files that processes have in their page tables, by /proc/PID/pagemap: what they touched since the
/// pages were taken from them the last time, and what the kernel mapped around it. In the order of the files,
/// ascending, not overlapping. Nothing when none maps any, the kernel does not say, or they are more than
/// kMaxTouchedRanges. Blocking: some ms a GB that is mapped.
std::optional<std::vector<FileRange>> touched_ranges(const std::vector<pid_t>& pids,
                                                     const std::vector<std::string>& files);
constexpr std::size_t kMaxTouchedRanges = 4096;

std::uint64_t bytes_of(const std::vector<FileRange>& ranges);

/// Begins to read these parts, and nothing around them, into the page cache. Blocks no longer than the disk's queue is
/// full; what cannot be read is for whoever touches it.
void begin_to_read(const std::vector<FileRange>& ranges);

}  // namespace thaw::node
