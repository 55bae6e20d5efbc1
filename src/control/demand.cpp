#include "control/demand.h"

#include <algorithm>
#include <cmath>

namespace thaw::control {

void PeakWindow::resize(base::Duration window) {
  const std::uint32_t latest = *std::max_element(slices_.begin(), slices_.end());
  slices_.fill(0);
  slices_[current_] = latest;
  slice_ = std::max<base::Duration>(window / kBuckets, base::Millis(1));
  slice_end_ = {};  // the next note() or peak() begins a new slice
}

void PeakWindow::roll(base::TimePoint now) {
  const bool fresh = slice_end_ <= base::TimePoint{};
  const auto passed = fresh ? 1 : (now - slice_end_) / slice_ + 1;
  for (auto n = std::min<std::int64_t>(passed, kBuckets + 1); n > 0; --n) {
    current_ = (current_ + 1) % slices_.size();
    slices_[current_] = 0;
  }
  slice_end_ = fresh ? now + slice_ : slice_end_ + passed * slice_;
}

std::uint32_t PeakWindow::peak(base::TimePoint now) {
  if (now >= slice_end_) roll(now);
  return *std::max_element(slices_.begin(), slices_.end());
}

double ArrivalRate::decay(base::Duration age) const { return std::exp2(-base::to_s(age) / base::to_s(half_life_)); }

double ArrivalRate::per_second(base::TimePoint now) const {
  return weight_ * decay(now - folded_at_) * std::log(2.0) / base::to_s(half_life_);
}

double ArrivalRate::level() const {
  constexpr double kNever = -1e18;
  return weight_ > 0 ? std::log2(weight_) + base::to_s(folded_at_.time_since_epoch()) / base::to_s(half_life_) : kNever;
}

void ArrivalRate::fold(base::TimePoint now) {
  weight_ *= decay(now - folded_at_);
  folded_at_ = now;
}

}  // namespace thaw::control
