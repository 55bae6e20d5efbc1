#pragma once

#include <cstdint>
#include <string>
#include <vector>

/// Ways of reading a file into the page cache, as plain as they can be: what src/node/weights/page_fill.cpp chose from.
/// `scripts/bench fill-ways` measures them side by side.
namespace thaw::bench {

struct Way {
  std::string name;
  unsigned workers = 1;
  std::uint64_t chunk_bytes = 0;  ///< of one call, or of one mapping; workers take the next chunk in turn
};

/// Names of the ways.
std::vector<std::string> way_names();

/// Reads all of a file; false when a call failed, with errno.
bool fill_by(const Way& way, const std::string& path, std::uint64_t bytes);

}  // namespace thaw::bench
