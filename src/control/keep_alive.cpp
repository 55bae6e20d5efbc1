#include "control/keep_alive.h"

#include <algorithm>
#include <cmath>

namespace thaw::control {

namespace {

constexpr double kFirstBin_s = 0.125;  ///< where the first bin ends
constexpr std::size_t kBins = PauseHistogram::kBins;
constexpr double kBinsAnOctave = 4;

base::Duration from_seconds(double s) { return base::Duration(static_cast<std::int64_t>(s * 1e9)); }

/// Where bins end, computed once.
const std::array<double, kBins>& uppers_s() {
  static const std::array<double, kBins> uppers = [] {
    std::array<double, kBins> all{};
    for (std::size_t bin = 0; bin < kBins; ++bin)
      all[bin] = kFirstBin_s * std::exp2(static_cast<double>(bin) / kBinsAnOctave);
    return all;
  }();
  return uppers;
}

/// The pauses, and their seconds, up to each bin.
class Sums {
 public:
  explicit Sums(const PauseHistogram& pauses) {
    for (std::size_t bin = 0; bin < kBins; ++bin) {
      counts_[bin + 1] = counts_[bin] + static_cast<double>(pauses.count(bin));
      seconds_[bin + 1] = seconds_[bin] + static_cast<double>(pauses.count(bin)) * PauseHistogram::middle_s(bin);
    }
  }
  /// Of the bins from `first` to before `end`.
  [[nodiscard]] double count(std::size_t first, std::size_t end) const { return counts_[end] - counts_[first]; }
  [[nodiscard]] double seconds(std::size_t first, std::size_t end) const { return seconds_[end] - seconds_[first]; }

 private:
  std::array<double, kBins + 1> counts_{}, seconds_{};
};

struct Seconds {
  double down, up, even;
  explicit Seconds(const PauseCosts& costs)
      : down(base::to_s(costs.down)), up(base::to_s(costs.up)), even(base::to_s(costs.break_even())) {}
};

/// The cheapest keep; `end`: the first bin of pauses that it does not cover.
struct Keep {
  double s = 0, cost = 0;
  std::size_t end = 0;
};

Keep cheapest_keep(const Sums& sums, const Seconds& s) {
  Keep best{0, sums.count(0, kBins) * s.even, 0};
  for (std::size_t end = 1; end <= kBins && uppers_s()[end - 1] <= kLongestKeep * s.even; ++end) {
    const double kept_s = uppers_s()[end - 1];
    const double cost = sums.seconds(0, end) + sums.count(end, kBins) * (kept_s + s.even);
    if (cost < best.cost) best = {kept_s, cost, end};
  }
  return best;
}

}  // namespace

double PauseHistogram::upper_s(std::size_t bin) {
  return uppers_s()[bin];
}
double PauseHistogram::lower_s(std::size_t bin) {
  return bin == 0 ? 0 : uppers_s()[bin - 1];
}
double PauseHistogram::middle_s(std::size_t bin) {
  return (lower_s(bin) + upper_s(bin)) / 2;
}

void PauseHistogram::note(base::Duration pause) {
  const auto found = std::lower_bound(uppers_s().begin(), uppers_s().end(), base::to_s(pause));
  counts_[std::min(static_cast<std::size_t>(found - uppers_s().begin()), kBins - 1)] += 1;
  total_ += 1;
  if (total_ <= kMemory) return;
  total_ = 0;
  for (float& count : counts_) total_ += count /= 2;
}

base::Duration PauseCosts::break_even() const {
  return from_seconds(base::to_s(down) + base::to_s(up) * (1 + kDeviceSecondsPerDelaySecond));
}

double cost_of_pause_s(const PausePlan& plan, base::Duration pause, const PauseCosts& costs) {
  const Seconds s(costs);
  const double pause_s = base::to_s(pause), kept_s = base::to_s(plan.keep);
  if (pause <= plan.keep) return pause_s;
  if (!plan.prewakes() || pause < plan.from - costs.up) return kept_s + s.even;
  const double from_s = base::to_s(plan.from);
  if (pause < plan.from) return kept_s + s.down + s.up + (from_s - pause_s) * kDeviceSecondsPerDelaySecond;
  if (pause <= plan.until) return kept_s + s.down + s.up + pause_s - from_s;
  return kept_s + s.down + s.up + base::to_s(plan.until) - from_s + s.even;
}

PausePlan reactive_plan(const PauseCosts& costs) {
  return {costs.break_even(), {}, {}};
}

PausePlan forecast_plan(const PauseHistogram& pauses, const PauseCosts& costs) {
  const Sums sums(pauses);
  const Seconds s(costs);
  const Keep keep = cheapest_keep(sums, s);
  PausePlan plan{from_seconds(keep.s), {}, {}};
  // What a window adds: for each pause in it the wait is saved and the time held before is paid; for each behind it,
  // the whole window, and one more way down and up. The first bin must leave time to go down and up.
  double most_saved = 0;
  for (std::size_t first = keep.end; first < kBins; ++first) {
    const double from_s = PauseHistogram::lower_s(first);
    if (from_s < keep.s + s.down + s.up) continue;
    for (std::size_t end = first + 1; end <= kBins; ++end) {
      const double until_s = PauseHistogram::upper_s(end - 1), width_s = until_s - from_s;
      if (keep.s + width_s + s.down + s.up > kLongestKeep * s.even - s.even) break;
      const double inside = sums.count(first, end);
      const double saved = inside * (s.up * kDeviceSecondsPerDelaySecond + from_s) - sums.seconds(first, end) -
                           sums.count(end, kBins) * (width_s + s.down + s.up);
      if (saved <= most_saved) continue;
      most_saved = saved;
      plan.from = from_seconds(from_s);
      plan.until = from_seconds(until_s);
    }
  }
  return plan;
}

PausePlan Forecaster::plan(const PauseHistogram& like_others, const PauseCosts& costs) const {
  const PauseHistogram& known = pauses_.total() < kPausesToBelieve ? like_others : pauses_;
  return trusted() && known.total() >= kPausesToBelieve ? forecast_plan(known, costs) : reactive_plan(costs);
}

void Forecaster::note(base::Duration pause, const PausePlan& planned, const PauseCosts& costs) {
  pauses_.note(pause);
  if (costs.up <= base::Duration::zero()) return;
  const double reactive_s = cost_of_pause_s(reactive_plan(costs), pause, costs);
  lead_s_ += reactive_s * (1 + kForecastMayLose) - cost_of_pause_s(planned, pause, costs);
  lead_s_ = std::min(lead_s_, kRemembered * base::to_s(costs.break_even()));
}

void Preference::note(double by_pauses_s, double by_tide_s) {
  constexpr double kForgets = 1.0 / 64;  // of what is known, at each pause
  lead_s_ += by_pauses_s - by_tide_s - lead_s_ * kForgets;
  if (known_ < kPausesToBelieve) ++known_;
}

}  // namespace thaw::control
