#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/time.h"

namespace thaw::control {

/// The weights at one place (ModelSpec's source.path), as far as they are in a node's page cache.
struct CachedWeights {
  std::string source;
  std::uint64_t resident_bytes = 0;
  double uses_per_s = 0;        ///< how often somebody asks for a model of theirs
  double read_bytes_per_s = 0;  ///< of the disk that has them, measured; 0: unknown
  base::TimePoint last_used{};  ///< among equals the longest unused goes first
  bool evictable = true;        ///< false: pinned, in use by a replica, or being read
};

struct CacheEviction {
  std::string source;
  std::uint64_t bytes = 0;  ///< from the end of the files; an engine reads from the front while the rest comes in
};

/// What must leave so that `excess_bytes` fewer are resident, or all that may leave when that is not enough.
/// What keeping a byte is worth is the time that it is expected to save: uses a second times seconds to read it again.
/// Pages are divisible, so taking the least valuable bytes first, and of the last weights only what is still needed, is
/// the optimum (the fractional knapsack: Dantzig 1957). Deterministic.
std::vector<CacheEviction> choose_evictions(std::vector<CachedWeights> entries, std::uint64_t excess_bytes);

/// Evictions are multiples of this, except where less is there: so that a few bytes too many do not cost a call each.
constexpr std::uint64_t kEvictionStep_bytes = 2ULL << 20;
/// Taken for the rate of a disk that nobody has measured yet.
constexpr double kUnmeasuredDisk_bytes_per_s = 1e9;

}  // namespace thaw::control
