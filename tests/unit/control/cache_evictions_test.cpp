// What leaves the page cache, and in which order.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "control/cache_evictions.h"

namespace thaw::control {

namespace {

constexpr std::uint64_t kStep = kEvictionStep_bytes;

CachedWeights weights(const char* source, std::uint64_t steps, double uses_per_s, double read_bytes_per_s = 1e9,
                      int last_used_s = 0) {
  return {source, steps * kStep, uses_per_s, read_bytes_per_s, base::TimePoint{} + base::Seconds(last_used_s), true};
}

std::string shown(const std::vector<CacheEviction>& evictions) {
  std::string text;
  for (const CacheEviction& eviction : evictions)
    text += (text.empty() ? "" : ", ") + eviction.source + " " + std::to_string(eviction.bytes / kStep);
  return text;
}

}  // namespace

TEST(CacheEvictions, take_the_least_used_bytes_and_no_more_than_needed) {
  EXPECT_EQ(shown(choose_evictions({weights("often", 100, 5), weights("seldom", 100, 0.1), weights("never", 100, 0)},
                                   130 * kStep)),
            "never 100, seldom 30");
}

TEST(CacheEvictions, nothing_leaves_within_the_budget) {
  EXPECT_TRUE(choose_evictions({weights("a", 100, 0)}, 0).empty());
}

TEST(CacheEvictions, a_byte_that_is_slow_to_read_again_is_worth_more) {
  EXPECT_EQ(shown(choose_evictions({weights("hdd", 10, 1, 2e8), weights("nvme", 10, 1, 6e9)}, kStep)), "nvme 1");
  EXPECT_EQ(shown(choose_evictions({weights("hdd", 10, 1, 2e8), weights("nvme", 10, 60, 6e9)}, kStep)), "hdd 1")
      << "unless it is asked for so seldom";
  EXPECT_EQ(shown(choose_evictions({weights("unmeasured", 10, 1, 0), weights("slow", 10, 1, 5e8)}, kStep)),
            "unmeasured 1");
}

TEST(CacheEvictions, among_equals_the_longest_unused_goes_then_the_first_by_name) {
  EXPECT_EQ(shown(choose_evictions({weights("new", 1, 0, 0, 9), weights("old", 1, 0, 0, 2)}, kStep)), "old 1");
  EXPECT_EQ(shown(choose_evictions({weights("b", 1, 0), weights("a", 1, 0)}, kStep)), "a 1");
}

TEST(CacheEvictions, what_may_not_leave_stays_and_the_rest_goes_even_if_it_is_not_enough) {
  CachedWeights pinned = weights("pinned", 100, 0);
  pinned.evictable = false;
  EXPECT_EQ(shown(choose_evictions({pinned, weights("a", 3, 7), weights("empty", 0, 0)}, 50 * kStep)), "a 3");
}

TEST(CacheEvictions, come_in_whole_steps_or_all) {
  CachedWeights odd = weights("odd", 2, 0);
  odd.resident_bytes += 100;
  EXPECT_EQ(choose_evictions({odd}, 1).front().bytes, kStep);
  EXPECT_EQ(choose_evictions({odd}, 2 * kStep).front().bytes, 2 * kStep);
  EXPECT_EQ(choose_evictions({odd}, 2 * kStep + 1).front().bytes, 2 * kStep + 100);
  EXPECT_EQ(choose_evictions({odd}, UINT64_MAX).front().bytes, 2 * kStep + 100);
}

TEST(CacheEvictions, keep_their_promises_for_any_entries) {
  std::mt19937_64 dice(20'240'601);
  for (int round = 0; round < 3'000; ++round) {
    std::vector<CachedWeights> entries;
    std::uint64_t evictable_bytes = 0;
    for (std::size_t n = dice() % 12; n > 0; --n) {
      CachedWeights entry = weights("", dice() % 20, static_cast<double>(dice() % 4),
                                    static_cast<double>(dice() % 3) * 1e9, static_cast<int>(dice() % 5));
      entry.source = "w" + std::to_string(n);
      entry.resident_bytes += dice() % 2 * (dice() % kStep);
      entry.evictable = dice() % 4 != 0;
      evictable_bytes += entry.evictable ? entry.resident_bytes : 0;
      entries.push_back(entry);
    }
    const std::uint64_t excess_bytes = dice() % (60 * kStep);
    const auto evictions = choose_evictions(entries, excess_bytes);

    const auto entry_of = [&](const std::string& source) {
      return *std::find_if(entries.begin(), entries.end(),
                           [&](const CachedWeights& entry) { return entry.source == source; });
    };
    const auto worth = [](const CachedWeights& entry) {
      return entry.uses_per_s / (entry.read_bytes_per_s > 0 ? entry.read_bytes_per_s : kUnmeasuredDisk_bytes_per_s);
    };
    std::uint64_t freed_bytes = 0;
    double dearest = -1;
    for (const CacheEviction& eviction : evictions) {
      const CachedWeights entry = entry_of(eviction.source);
      ASSERT_TRUE(entry.evictable);
      ASSERT_GT(eviction.bytes, 0U);
      ASSERT_LE(eviction.bytes, entry.resident_bytes);
      ASSERT_GE(worth(entry), dearest) << "cheapest first";
      ASSERT_TRUE(eviction.bytes == entry.resident_bytes || eviction.source == evictions.back().source)
          << "only the last one keeps something";
      dearest = worth(entry);
      freed_bytes += eviction.bytes;
    }
    ASSERT_GE(freed_bytes, std::min(excess_bytes, evictable_bytes)) << "as much as is needed and there is";
    ASSERT_LT(freed_bytes, excess_bytes + kStep) << "and a step more at most";
    for (const CachedWeights& entry : entries) {
      const bool evicted = std::any_of(evictions.begin(), evictions.end(),
                                       [&](const CacheEviction& eviction) { return eviction.source == entry.source; });
      if (!evicted && entry.evictable && entry.resident_bytes > 0 && !evictions.empty()) {
        ASSERT_GE(worth(entry), dearest) << "nothing cheaper is left";
      }
    }
  }
}

}  // namespace thaw::control
