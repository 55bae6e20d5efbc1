#pragma once

#include <cstdint>
#include <string>

namespace thaw::wire {

/// A file as it can be told from another without reading it. Whoever writes to it, or puts another in its place, changes at
/// least one of these (unless he sets the time of modification back: only a digest shows that).
struct FileStamp {
  std::string path;  ///< absolute
  std::uint64_t bytes = 0;
  std::uint64_t mtime_ns = 0;  ///< of the last change of its bytes, since 1970
  std::uint64_t inode = 0;
  bool operator==(const FileStamp&) const = default;
};

/// How `now` differs from `before`, for people: "its size went from 10 to 20 bytes". Empty when it does not.
std::string describe_change(const FileStamp& before, const FileStamp& now);

}  // namespace thaw::wire
