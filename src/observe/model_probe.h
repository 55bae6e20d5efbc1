#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/time.h"

/// The problem: a library's counters are made for many writers, with a lock or a loop of compare-and-swap at each of
/// the dozen that a request touches. Here one thread writes, and whoever scrapes reads beside it: relaxed loads and
/// stores of whole numbers are enough.
namespace thaw::observe {

class Tally {
 public:
  void add(std::uint64_t n) { value_.store(value() + n, std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

/// From a warm token to a slow start of a big model, in seconds; upper bounds, the last bucket has none.
inline constexpr std::array<double, 17> kLatencyBuckets_s{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
                                                          1,     2.5,    5,     10,   30,    60,   120, 300};

class LatencyTally {
 public:
  void observe(base::Duration took) {
    const double seconds = base::to_s(took);
    std::size_t bucket = 0;
    while (bucket < kLatencyBuckets_s.size() && seconds > kLatencyBuckets_s[bucket]) ++bucket;
    counts_[bucket].add(1);
    sum_ns_.add(static_cast<std::uint64_t>(took.count() > 0 ? took.count() : 0));
  }
  [[nodiscard]] std::uint64_t count(std::size_t bucket) const { return counts_[bucket].value(); }
  [[nodiscard]] double sum_s() const { return static_cast<double>(sum_ns_.value()) / 1e9; }

 private:
  std::array<Tally, kLatencyBuckets_s.size() + 1> counts_;
  Tally sum_ns_;
};

inline constexpr std::array<const char*, 6> kStatusClasses{"none", "1xx", "2xx", "3xx", "4xx", "5xx"};

struct ModelProbe {
  std::array<Tally, kStatusClasses.size()> by_class;
  Tally prompt_tokens, completion_tokens;
  LatencyTally queue;
  std::array<LatencyTally, 4> first_byte;  ///< by Found
  LatencyTally duration;

  /// A model nobody has asked yet has no series.
  [[nodiscard]] bool used() const {
    std::uint64_t requests = 0;
    for (const Tally& t : by_class) requests += t.value();
    return requests > 0;
  }
};

}  // namespace thaw::observe
