#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/time.h"
#include "control/demand.h"

/// When a model's next request comes depends on more than its own past: traffic rises and falls for many models
/// together, by day and night and in bursts of those who send it. How much comes to all of them right now, times the
/// model's usual share of it, is known at once, even of a model that was hardly ever asked for. Pure.
namespace thaw::control {

/// Arrivals at all models: how many of late, and how that was over the last minute. An arrival costs a few operations,
/// a question about the past at most kSlices.
class Tide {
 public:
  static constexpr base::Duration kHalfLife = base::Seconds(2);
  static constexpr base::Duration kSlice = base::Millis(250);  ///< how exactly the past is remembered
  static constexpr std::size_t kSlices = 256;                  ///< ... and for how long

  void note(base::TimePoint now);
  /// For how long requests that are `share` of all come more often than once in `every` on average, if none came from
  /// now on. 0: they do not now.
  [[nodiscard]] base::Duration lasts(double share, base::Duration every, base::TimePoint now) const;
  /// For how long after `from` they did, as it turned out: to a slice, and no longer than until `until`. 0 for a time
  /// that is not remembered.
  [[nodiscard]] base::Duration lasted(double share, base::Duration every, base::TimePoint from,
                                      base::TimePoint until) const;

 private:
  [[nodiscard]] double began_with(std::int64_t slice) const;

  ArrivalRate rate_{kHalfLife};
  std::array<float, kSlices> began_with_{};  ///< requests a second when each of the last slices began, by its number
  std::int64_t first_ = -1, last_ = -1;      ///< slices in which something came first and last; -1: nothing did
};

}  // namespace thaw::control
