#include "sim/meter.h"

#include <algorithm>

namespace thaw::sim {

void Meter::advance(base::TimePoint now) {
  const double passed_s = base::to_s(now - at_);
  held_device_s_ += held_ * passed_s;
  used_device_s_ += used_ * passed_s;
  standby_gib_s_ += standby_gib_ * passed_s;
  memory_byte_s_ += static_cast<double>(memory_bytes_) * passed_s;
  while (at_ < now) {
    const auto slice = static_cast<std::size_t>(at_.time_since_epoch() / slice_);
    const base::TimePoint end = slice >= by_slice_s_.size()
                                    ? now
                                    : std::min(now, base::TimePoint(slice_ * static_cast<std::int64_t>(slice + 1)));
    if (slice < by_slice_s_.size()) by_slice_s_[slice] += held_ * base::to_s(end - at_);
    at_ = end;
  }
}

void Meter::held(base::TimePoint now, double devices_delta, int used_delta) {
  advance(now);
  held_ += devices_delta;
  used_ += used_delta;
  if (used_ == 0) held_ = 0;  // no sum of rounding errors
  peak_ = std::max(peak_, used_);
}

void Meter::standby(base::TimePoint now, double gib_delta) {
  advance(now);
  standby_gib_ = std::max(standby_gib_ + gib_delta, 0.0);
}

void Meter::memory(base::TimePoint now, std::int64_t bytes_delta) {
  if (bytes_delta == 0) return;
  advance(now);
  memory_bytes_ += bytes_delta;
  memory_peak_bytes_ = std::max(memory_peak_bytes_, memory_bytes_);
}

void Meter::read(base::TimePoint now, Outcome& into) {
  advance(now);
  into.held_device_s = held_device_s_;
  into.used_device_s = used_device_s_;
  into.standby_gib_s = standby_gib_s_;
  into.memory_byte_s = memory_byte_s_;
  into.memory_peak_bytes = static_cast<std::uint64_t>(memory_peak_bytes_);
  into.peak_devices = static_cast<std::uint32_t>(peak_);
  into.held_by_slice.clear();
  for (const double sum : by_slice_s_) into.held_by_slice.push_back(static_cast<float>(sum / base::to_s(slice_)));
}

}  // namespace thaw::sim
