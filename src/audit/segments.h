#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace thaw::audit {

/// One file of the log: "audit-0000000000000001.log", named after its first record. All but the last are sealed.
struct Segment {
  std::string path;
  std::uint64_t first_seq = 0;
};

std::string segment_path(const std::string& directory, std::uint64_t first_seq);
/// The signed head of a sealed segment lies beside it.
std::string seal_path(const std::string& segment);
std::string head_path(const std::string& directory);
/// The last part of a path.
std::string name_of(const std::string& path);

/// In the order of their records; what is named otherwise is left out. ErrorKind::not_found: there is no such
/// directory.
base::Result<std::vector<Segment>> list_segments(const std::string& directory);

struct Line {
  std::string_view text;     ///< without its newline; of one that is longer than any record, the beginning
  std::uint64_t number = 0;  ///< from 1
  std::uint64_t offset = 0;  ///< of its first byte in the file
  std::uint64_t end = 0;     ///< of the first byte behind it and its newline
  bool complete = false;     ///< ends with a newline
};

/// Calls `on_line` for each line from byte `offset` on, until it returns false. Takes memory for one line only.
base::Status each_line(const std::string& path, std::uint64_t offset, const std::function<bool(const Line&)>& on_line);

}  // namespace thaw::audit
