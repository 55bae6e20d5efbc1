#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace thaw::bench {

/// Durations in nanoseconds, counted in buckets that are at most 1/64 of their value wide: millions of them in 30 KiB, whatever they are.
class Latencies {
 public:
  void note(std::uint64_t ns) {
    ++counts_[bucket(ns)];
    ++total_;
    sum_ns_ += ns;
    if (ns > most_ns_) most_ns_ = ns;
  }
  void add(const Latencies& other) {
    for (std::size_t n = 0; n < counts_.size(); ++n) counts_[n] += other.counts_[n];
    total_ += other.total_;
    sum_ns_ += other.sum_ns_;
    if (other.most_ns_ > most_ns_) most_ns_ = other.most_ns_;
  }

  [[nodiscard]] std::uint64_t count() const { return total_; }
  [[nodiscard]] double most_us() const { return static_cast<double>(most_ns_) / 1e3; }
  [[nodiscard]] double mean_us() const { return total_ == 0 ? 0 : static_cast<double>(sum_ns_) / static_cast<double>(total_) / 1e3; }
  /// The upper end of the bucket in which the `share` smallest end.
  [[nodiscard]] double quantile_us(double share) const {
    const auto wanted = static_cast<std::uint64_t>(share * static_cast<double>(total_));
    std::uint64_t seen = 0;
    for (std::size_t n = 0; n < counts_.size(); ++n) {
      seen += counts_[n];
      if (seen > wanted) return static_cast<double>(upper(n)) / 1e3;
    }
    return most_us();
  }

 private:
  static constexpr unsigned kFine = 6;  ///< bits of a value that tell buckets of one octave apart
  static constexpr std::uint64_t kSteps = 1U << kFine;

  static std::size_t bucket(std::uint64_t ns) {
    if (ns < kSteps) return static_cast<std::size_t>(ns);
    const unsigned octave = static_cast<unsigned>(std::bit_width(ns)) - kFine - 1;
    return static_cast<std::size_t>((octave + 1) * kSteps + ((ns >> octave) - kSteps));
  }
  static std::uint64_t upper(std::size_t n) {
    if (n < kSteps) return n;
    const std::size_t octave = n / kSteps - 1;
    return ((n % kSteps + kSteps + 1) << octave) - 1;
  }

  std::array<std::uint64_t, (64 - kFine + 1) * kSteps> counts_{};
  std::uint64_t total_ = 0, sum_ns_ = 0, most_ns_ = 0;
};

}  // namespace thaw::bench
