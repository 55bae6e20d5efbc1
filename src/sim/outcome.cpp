#include "sim/outcome.h"

#include <algorithm>
#include <cmath>

namespace thaw::sim {

const char* to_string(Served served) {
  switch (served) {
    case Served::ready:
      return "ready";
    case Served::wake:
      return "wake";
    case Served::restore:
      return "restore";
    case Served::start:
      return "start";
    case Served::not_served:
      break;
  }
  return "none";
}

double Outcome::cost_per_1000(double device_hour_price) const {
  return answered == 0 ? 0 : device_hours() * device_hour_price * 1000 / static_cast<double>(answered);
}

void summarise(Outcome& o) {
  std::vector<float> delays;
  delays.reserve(o.delay_s.size());
  for (const float delay : o.delay_s) {
    if (delay != Outcome::kRefused) delays.push_back(delay);
  }
  std::sort(delays.begin(), delays.end());
  if (delays.empty()) return;
  const auto percentile = [&](double share) {
    const auto rank = static_cast<std::size_t>(std::ceil(share * static_cast<double>(delays.size())));
    return static_cast<double>(delays[std::clamp<std::size_t>(rank, 1, delays.size()) - 1]);
  };
  o.p50_s = percentile(0.5);
  o.p90_s = percentile(0.9);
  o.p99_s = percentile(0.99);
  o.max_s = delays.back();
  const auto within = std::upper_bound(delays.begin(), delays.end(), static_cast<float>(kDelayGoal_s)) - delays.begin();
  o.within_5s = static_cast<double>(within) / static_cast<double>(o.delay_s.size());
}

}  // namespace thaw::sim
