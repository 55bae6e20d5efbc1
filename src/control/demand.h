#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/time.h"

namespace thaw::control {

/// The highest concurrency of the last while: a model keeps the replicas that its recent peak needed, so that a short
/// lull does not stop what the next burst needs. Bounded memory: the maximum of each of kBuckets slices of the window.
/// Covers at least the window and at most one slice more.
class PeakWindow {
 public:
  static constexpr std::size_t kBuckets = 8;

  explicit PeakWindow(base::Duration window = {}) { resize(window); }
  void resize(base::Duration window);  ///< keeps the latest peak
  void note(base::TimePoint now, std::uint32_t concurrency) {
    if (now >= slice_end_) roll(now);
    std::uint32_t& slot = slices_[current_];
    if (concurrency > slot) slot = concurrency;
  }
  [[nodiscard]] std::uint32_t peak(base::TimePoint now);
  [[nodiscard]] base::TimePoint slice_end() const { return slice_end_; }  ///< when peak() may change by itself next

 private:
  void roll(base::TimePoint now);

  std::array<std::uint32_t, kBuckets + 1> slices_{};
  std::size_t current_ = 0;
  base::Duration slice_{};
  base::TimePoint slice_end_{};
};

/// Requests per second, each counting half as much after a while (a minute, unless said): what is not asked for any
/// more soon looks it.
class ArrivalRate {
 public:
  static constexpr base::Duration kHalfLife = base::Seconds(60);

  explicit ArrivalRate(base::Duration half_life = kHalfLife) : half_life_(half_life) {}

  void note(base::TimePoint now) {
    if (now - folded_at_ > base::Seconds(1)) fold(now);
    weight_ += 1.0;
  }
  [[nodiscard]] double per_second(base::TimePoint now) const;
  /// log2 of the rate at the epoch: rates with the same half-life compare by it at any time alike. Lowest if there never was a request.
  [[nodiscard]] double level() const;

 private:
  void fold(base::TimePoint now);
  [[nodiscard]] double decay(base::Duration age) const;

  base::Duration half_life_;
  double weight_ = 0;
  base::TimePoint folded_at_{};
};

/// A running mean that follows change: each new value weighs 0.3. 0 before the first one.
class RunningMean {
 public:
  void note(base::Duration value) {
    mean_ = first_ ? value : base::Duration((mean_.count() * 7 + value.count() * 3) / 10);
    first_ = false;
  }
  [[nodiscard]] base::Duration value() const { return mean_; }
  [[nodiscard]] bool known() const { return !first_; }  ///< a mean of nothing is zero, and so may one of something be

 private:
  base::Duration mean_{};
  bool first_ = true;
};

}  // namespace thaw::control
