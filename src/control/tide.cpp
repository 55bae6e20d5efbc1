#include "control/tide.h"

#include <algorithm>
#include <cmath>

namespace thaw::control {

namespace {

std::int64_t slice_of(base::TimePoint at) {
  return at.time_since_epoch() / Tide::kSlice;
}

base::TimePoint begin_of(std::int64_t slice) {
  return base::TimePoint(slice * Tide::kSlice);
}

}  // namespace

void Tide::note(base::TimePoint now) {
  constexpr auto kRemembered = static_cast<std::int64_t>(kSlices);
  const std::int64_t slice = slice_of(now);
  if (first_ < 0) first_ = last_ = slice;
  for (std::int64_t s = std::max(last_ + 1, slice - kRemembered + 1); s <= slice; ++s)
    began_with_[static_cast<std::size_t>(s) % kSlices] = static_cast<float>(rate_.per_second(begin_of(s)));
  last_ = std::max(last_, slice);
  rate_.note(now);
}

base::Duration Tide::lasts(double share, base::Duration every, base::TimePoint now) const {
  const double expected = rate_.per_second(now) * share * base::to_s(every);
  if (expected <= 1) return {};
  return base::Duration(static_cast<std::int64_t>(std::log2(expected) * base::to_s(kHalfLife) * 1e9));
}

/// Of one of the last slices, or of one to come if nothing does.
double Tide::began_with(std::int64_t slice) const {
  return slice > last_ ? rate_.per_second(begin_of(slice))
                       : static_cast<double>(began_with_[static_cast<std::size_t>(slice) % kSlices]);
}

base::Duration Tide::lasted(double share, base::Duration every, base::TimePoint from, base::TimePoint until) const {
  const std::int64_t first = slice_of(from) + 1;
  if (first_ < 0 || first <= std::max(first_, last_ - static_cast<std::int64_t>(kSlices))) return {};
  for (std::int64_t s = first; begin_of(s) < until; ++s) {
    if (s - first >= static_cast<std::int64_t>(kSlices) || began_with(s) * share * base::to_s(every) <= 1)
      return std::max<base::Duration>(begin_of(s) - kSlice - from, {});
  }
  return until - from;
}

}  // namespace thaw::control
