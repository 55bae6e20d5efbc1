#pragma once

#include <cstdint>
#include <vector>

#include "base/time.h"
#include "sim/outcome.h"

namespace thaw::sim {

/// Sums up what is held over time.
class Meter {
 public:
  explicit Meter(base::Duration span)
      : slice_(span / static_cast<std::int64_t>(Outcome::kSlices) + base::Duration(1)),
        by_slice_s_(Outcome::kSlices, 0.0) {}

  void held(base::TimePoint now, double devices_delta,
            int used_delta);  ///< shares of devices; devices with anything on them
  void standby(base::TimePoint now, double gib_delta);
  void memory(base::TimePoint now, std::int64_t bytes_delta);  ///< of the machines
  /// Into the outcome, as of `now`.
  void read(base::TimePoint now, Outcome& into);

 private:
  void advance(base::TimePoint now);

  base::Duration slice_;
  base::TimePoint at_{};
  double held_ = 0, standby_gib_ = 0;
  int used_ = 0, peak_ = 0;
  std::int64_t memory_bytes_ = 0, memory_peak_bytes_ = 0;
  double memory_byte_s_ = 0;
  double held_device_s_ = 0, used_device_s_ = 0, standby_gib_s_ = 0;
  std::vector<double> by_slice_s_;
};

}  // namespace thaw::sim
