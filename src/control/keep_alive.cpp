#include "control/keep_alive.h"

#include <algorithm>
#include <cmath>

namespace thaw::control {

namespace {

constexpr double kFirstBin_s = 0.25;  ///< where the first bin ends

base::Duration from_seconds(double s) { return base::Duration(static_cast<std::int64_t>(s * 1e9)); }

/// What the pauses would have cost together, had the device been kept for `kept_s` of each.
double cost_of(const PauseHistogram& pauses, double kept_s, double break_even_s) {
  double cost = 0;
  for (std::size_t bin = 0; bin < PauseHistogram::kBins; ++bin) {
    const double pause_s = PauseHistogram::middle_s(bin);
    cost += static_cast<double>(pauses.count(bin)) * (pause_s <= kept_s ? pause_s : kept_s + break_even_s);
  }
  return cost;
}

}  // namespace

double PauseHistogram::upper_s(std::size_t bin) { return kFirstBin_s * std::exp2(static_cast<double>(bin) / 2); }

double PauseHistogram::middle_s(std::size_t bin) { return upper_s(bin) * (1 + std::sqrt(0.5)) / 2; }

void PauseHistogram::note(base::Duration pause) {
  const double octaves = std::log2(std::max(base::to_s(pause), kFirstBin_s) / kFirstBin_s);
  const auto bin = static_cast<std::size_t>(std::ceil(octaves * 2));
  counts_[std::min(bin, kBins - 1)] += 1;
  total_ += 1;
  if (total_ <= kMemory) return;
  total_ = 0;
  for (float& count : counts_) total_ += count /= 2;
}

base::Duration break_even(base::Duration down, base::Duration up) {
  return from_seconds(base::to_s(down) + base::to_s(up) * (1 + kDeviceSecondsPerDelaySecond));
}

base::Duration keep_alive(const PauseHistogram& pauses, base::Duration break_even) {
  if (pauses.total() < kPausesToBelieve) return break_even;
  const double even_s = base::to_s(break_even);
  double best_s = even_s, least = cost_of(pauses, even_s, even_s);
  const auto look_at = [&](double kept_s) {
    const double cost = cost_of(pauses, kept_s, even_s);
    if (cost >= least) return;
    least = cost;
    best_s = kept_s;
  };
  look_at(even_s / 2);
  look_at(even_s * 2);
  for (std::size_t bin = 0; bin < PauseHistogram::kBins; ++bin) {
    const double kept_s = PauseHistogram::upper_s(bin);
    if (kept_s > even_s / 2 && kept_s < even_s * 2) look_at(kept_s);
  }
  return from_seconds(best_s);
}

}  // namespace thaw::control
