#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/time.h"

namespace thaw::sim {

/// Knative's pod autoscaler for one model, from its documentation (knative.dev/docs/serving/autoscaling/kpa-specific,
/// .../autoscale-go) and the defaults in config-autoscaler: stable window 60 s, panic window 10% of it, panic at 200%
/// of what is ready, target 70% of the concurrency, looked at every 2 s, at most twice fewer at a time.
class KpaWindows {
 public:
  static constexpr base::Duration kLook = base::Seconds(2);
  static constexpr std::size_t kStable = 60, kPanic = 6;  ///< in buckets of a second
  static constexpr double kTarget = 0.7, kPanicAt = 2.0, kMaxDown = 2.0;

  void note(base::TimePoint now, std::uint32_t concurrency);  ///< as of now
  /// Replicas wanted, given how many are ready and how many requests one serves.
  std::uint32_t look(base::TimePoint now, std::uint32_t ready, std::uint32_t capacity);
  [[nodiscard]] bool empty() const { return concurrency_ == 0 && idle_buckets_ >= kStable; }

 private:
  void advance(base::TimePoint now);
  [[nodiscard]] double average(std::size_t buckets) const;

  std::array<double, kStable> buckets_{};  ///< concurrency times seconds
  std::size_t at_bucket_ = 0;
  std::size_t idle_buckets_ = kStable;
  double present_ = 0;  ///< of the second that is going on
  bool any_ = false;    ///< in it
  base::TimePoint at_{};
  std::uint32_t concurrency_ = 0;
  bool panicking_ = false;
  base::TimePoint panic_since_{};
  std::uint32_t panic_replicas_ = 0;
};

}  // namespace thaw::sim
