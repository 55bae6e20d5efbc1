#include "control/rest_policy.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/units.h"

namespace thaw::control {

namespace {

double seconds(const CostEstimate& cost) { return base::to_s(cost.mean()); }

std::string takes(const char* what, const CostEstimate& cost) {
  return std::string(what) + (cost.known() ? " in " + base::format_duration(cost.mean()) : " in an unknown time");
}

/// Whether `other` is to be preferred, given which is now.
bool better(double other, double present) { return other < present * (1 - kHysteresis); }

/// Whether a restore would be the next best way up after a wake.
bool restores_otherwise(const Costs& costs, bool image) {
  return image && costs.restore.known() && (!costs.start.known() || costs.restore.mean() < costs.start.mean());
}

}  // namespace

void CostEstimate::note(base::Duration value) {
  constexpr double kWeight = 0.3;
  if (samples_++ == 0) {
    mean_ = quickest_ = value;
    return;
  }
  quickest_ = std::min(value, quickest_ + (value - quickest_) / 16);
  const auto difference = static_cast<double>((value - mean_).count());
  variance_ns2_ = (1 - kWeight) * (variance_ns2_ + kWeight * difference * difference);
  mean_ = base::Duration((mean_.count() * 7 + value.count() * 3) / 10);
}

base::Duration CostEstimate::deviation() const { return base::Duration(static_cast<std::int64_t>(std::sqrt(variance_ns2_))); }

double worth_per_byte(double arrivals_per_s, base::Duration saved, std::uint64_t bytes) {
  return arrivals_per_s * std::max(base::to_s(saved), 0.0) / static_cast<double>(std::max<std::uint64_t>(bytes, 1));
}

std::string why_wake(const Costs& costs, bool image, base::Duration read_again) {
  const bool restores = restores_otherwise(costs, image);
  const bool reads = read_again >= base::Millis(1);
  return takes("wakes", costs.wake) + (reads ? " and reads its weights again in " + base::format_duration(read_again) : "") + ", " + takes(restores ? "restores" : "starts", restores ? costs.restore : costs.start);
}

namespace {

enum class Because { failed, costs, unknown, measured_again };

struct Decided {
  bool standby, prefers_standby;
  Because why;
};

Decided decide(const RestQuestion& q) {
  const Costs& costs = *q.costs;
  const bool try_again = q.descents > 0 && q.descents % kTryAgainEvery == 0;
  if (q.failures >= kTrials && !try_again) return {false, false, Because::failed};
  const CostEstimate& otherwise = restores_otherwise(costs, q.image) ? costs.restore : costs.start;
  // However quick the wake itself may be.
  if (otherwise.known() && base::to_s(q.read_again) >= seconds(otherwise)) return {false, false, Because::costs};
  if (costs.wake.samples() < kTrials) return {true, q.rests_in_standby, Because::unknown};
  if (!otherwise.known()) return {true, true, Because::costs};
  const double wake = seconds(costs.wake) + base::to_s(q.read_again), else_takes = seconds(otherwise);
  const bool standby = q.rests_in_standby ? !better(else_takes, wake) : better(wake, else_takes);
  if (try_again && !standby) return {true, false, Because::measured_again};
  return {standby, standby, Because::costs};
}

}  // namespace

bool rests_in_standby(const RestQuestion& question) { return decide(question).standby; }

RestAnswer choose_rest(const RestQuestion& q) {
  const Decided decided = decide(q);
  const auto because = [&](std::string why) { return RestAnswer{decided.standby, decided.prefers_standby, std::move(why)}; };
  switch (decided.why) {
    case Because::failed: return because("freezing or waking it failed");
    case Because::unknown: return because("what a wake takes is not known yet");
    case Because::measured_again: return because(why_wake(*q.costs, q.image, q.read_again) + "; measured again");
    case Because::costs: break;
  }
  return because(why_wake(*q.costs, q.image, q.read_again));
}

WayAnswer choose_way(const WayQuestion& q) {
  const Costs& costs = *q.costs;
  if (!costs.start.known()) return {true, true, "an image is there"};
  if (costs.restore.samples() < kTrials) return {true, q.restored_last, "what a restore takes is not known yet"};
  const double restore = seconds(costs.restore), start = seconds(costs.start);
  const bool prefers = q.restored_last ? !better(start, restore) : better(restore, start);
  const std::string why = takes("restores", costs.restore) + ", " + takes("starts", costs.start);
  if (q.ascents > 0 && q.ascents % kTryAgainEvery == 0) return {!prefers, prefers, why + "; the slower one is measured again"};
  return {prefers, prefers, why};
}

bool snapshot_worthwhile(const Costs& costs, base::Duration fastest_restore) {
  if (!costs.start.known()) return false;
  if (costs.restore.samples() >= kTrials) return better(seconds(costs.restore), seconds(costs.start));
  return better(base::to_s(fastest_restore), seconds(costs.start));
}

}  // namespace thaw::control
