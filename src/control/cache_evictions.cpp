#include "control/cache_evictions.h"

#include <algorithm>
#include <string_view>
#include <tuple>

namespace thaw::control {
namespace {

/// Seconds that a resident byte is expected to save a second, up to a factor.
double worth(const CachedWeights& weights) {
  return weights.uses_per_s / (weights.read_bytes_per_s > 0 ? weights.read_bytes_per_s : kUnmeasuredDisk_bytes_per_s);
}

}  // namespace

std::vector<CacheEviction> choose_evictions(std::vector<CachedWeights> entries, std::uint64_t excess_bytes) {
  std::erase_if(entries,
                [](const CachedWeights& weights) { return !weights.evictable || weights.resident_bytes == 0; });
  std::sort(entries.begin(), entries.end(), [](const CachedWeights& one, const CachedWeights& other) {
    return std::tuple(worth(one), one.last_used, std::string_view(one.source)) <
           std::tuple(worth(other), other.last_used, std::string_view(other.source));
  });
  std::vector<CacheEviction> evictions;
  for (const CachedWeights& weights : entries) {
    if (excess_bytes == 0) break;
    const std::uint64_t whole_steps = (excess_bytes - 1) / kEvictionStep_bytes + 1;
    const bool all = whole_steps > weights.resident_bytes / kEvictionStep_bytes;
    const std::uint64_t bytes = all ? weights.resident_bytes : whole_steps * kEvictionStep_bytes;
    evictions.push_back({weights.source, bytes});
    excess_bytes -= std::min(excess_bytes, bytes);
  }
  return evictions;
}

}  // namespace thaw::control
