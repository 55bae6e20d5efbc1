#include "node/tiers/touched.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>
#include <map>
#include <numeric>
#include <tuple>

#include <fmt/format.h>

#include "node/sandbox/fd.h"

namespace thaw::node {
namespace {

constexpr std::uint64_t kPresent = 1ULL << 63;  // of an entry of pagemap (Documentation/admin-guide/mm/pagemap.rst)
constexpr std::size_t kEntriesAtOnce = 8192;

/// Files by the numbers that /proc/PID/maps has for them.
struct Files {
  explicit Files(const std::vector<std::string>& paths) {
    struct stat status {};
    for (std::size_t i = 0; i < paths.size(); ++i)
      if (::stat(paths[i].c_str(), &status) == 0)
        index.emplace(fmt::format("{:x}:{:x} {}", major(status.st_dev), minor(status.st_dev), status.st_ino), i);
  }
  std::map<std::string, std::size_t> index;
};

struct Mapping {
  std::size_t file = 0;
  std::uint64_t begin = 0, end = 0;  ///< addresses
  std::uint64_t offset = 0;          ///< in the file
};

std::vector<Mapping> mappings_of(pid_t pid, const Files& files) {
  std::vector<Mapping> found;
  std::ifstream maps(fmt::format("/proc/{}/maps", pid));
  for (std::string line; std::getline(maps, line);) {
    // "7f0c4000-7f0c8000 r--s 00001000 08:01 1234   /model.gguf"
    unsigned long begin = 0, end = 0, offset = 0, inode = 0;
    unsigned device_major = 0, device_minor = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx %*s %lx %x:%x %lu", &begin, &end, &offset, &device_major, &device_minor,
                    &inode) != 6)
      continue;
    const auto file = files.index.find(fmt::format("{:x}:{:x} {}", device_major, device_minor, inode));
    if (file != files.index.end()) found.push_back({file->second, begin, end, offset});
  }
  return found;
}

struct Span {
  std::size_t file = 0;
  std::uint64_t begin = 0, end = 0;  ///< in the file
};

/// Fails on a short read: the process has ended.
bool add_present(int pagemap, const Mapping& mapping, std::vector<Span>& spans) {
  static const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  std::array<std::uint64_t, kEntriesAtOnce> entries{};
  bool last_was_present = false;
  for (std::uint64_t at = mapping.begin; at < mapping.end;) {
    const std::uint64_t count = std::min<std::uint64_t>(kEntriesAtOnce, (mapping.end - at) / page);
    const auto wanted = static_cast<ssize_t>(count * sizeof entries[0]);
    const auto where = static_cast<off_t>(at / page * sizeof entries[0]);
    if (count == 0 || ::pread(pagemap, entries.data(), static_cast<std::size_t>(wanted), where) != wanted) return false;
    for (std::uint64_t i = 0; i < count; ++i, at += page) {
      const bool present = (entries[i] & kPresent) != 0;
      const std::uint64_t offset = mapping.offset + (at - mapping.begin);
      if (present && !last_was_present) spans.push_back({mapping.file, offset, offset});
      if (present) spans.back().end = offset + page;
      last_was_present = present;
    }
  }
  return true;
}

}  // namespace

std::optional<std::vector<FileRange>> touched_ranges(const std::vector<pid_t>& pids,
                                                     const std::vector<std::string>& files) {
  const Files known(files);
  std::vector<Span> spans;
  bool any = false;
  for (const pid_t pid : pids) {
    const std::vector<Mapping> mappings = mappings_of(pid, known);
    if (mappings.empty()) continue;
    const Fd pagemap(::open(fmt::format("/proc/{}/pagemap", pid).c_str(), O_RDONLY | O_CLOEXEC));
    if (!pagemap) return std::nullopt;
    any = true;
    for (const Mapping& mapping : mappings)
      if (!add_present(pagemap.get(), mapping, spans) || spans.size() > kMaxTouchedRanges) return std::nullopt;
  }
  if (!any) return std::nullopt;
  std::sort(spans.begin(), spans.end(),
            [](const Span& a, const Span& b) { return std::tie(a.file, a.begin) < std::tie(b.file, b.begin); });
  std::vector<FileRange> ranges;
  for (const Span& span : spans) {
    const bool joins = !ranges.empty() && ranges.back().path == files[span.file] &&
                       span.begin <= ranges.back().offset + ranges.back().bytes;
    if (!joins) ranges.push_back({files[span.file], span.begin, 0});
    FileRange& range = ranges.back();
    range.bytes = std::max(range.bytes, span.end - range.offset);
  }
  return ranges;
}

std::uint64_t bytes_of(const std::vector<FileRange>& ranges) {
  return std::accumulate(ranges.begin(), ranges.end(), std::uint64_t{0},
                         [](std::uint64_t sum, const FileRange& range) { return sum + range.bytes; });
}

void begin_to_read(const std::vector<FileRange>& ranges) {
  std::string open;
  Fd fd;
  for (const FileRange& range : ranges) {
    if (open != range.path) fd = Fd(::open(range.path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    open = range.path;
    if (fd)
      ::posix_fadvise(fd.get(), static_cast<off_t>(range.offset), static_cast<off_t>(range.bytes), POSIX_FADV_WILLNEED);
  }
}

}  // namespace thaw::node
