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

Delays summarise(std::vector<float> delays) {
  Delays d;
  d.requests = delays.size();
  std::erase(delays, Outcome::kRefused);
  d.answered = delays.size();
  if (delays.empty()) return d;
  std::sort(delays.begin(), delays.end());
  const auto percentile = [&](double share) {
    const auto rank = static_cast<std::size_t>(std::ceil(share * static_cast<double>(delays.size())));
    return static_cast<double>(delays[std::clamp<std::size_t>(rank, 1, delays.size()) - 1]);
  };
  d.p50_s = percentile(0.5);
  d.p90_s = percentile(0.9);
  d.p99_s = percentile(0.99);
  d.max_s = delays.back();
  const auto within = std::upper_bound(delays.begin(), delays.end(), static_cast<float>(kDelayGoal_s)) - delays.begin();
  d.within_5s = static_cast<double>(within) / static_cast<double>(d.requests);
  return d;
}

void summarise(Outcome& o) {
  const Delays d = summarise(o.delay_s);
  o.p50_s = d.p50_s;
  o.p90_s = d.p90_s;
  o.p99_s = d.p99_s;
  o.max_s = d.max_s;
  o.within_5s = d.within_5s;
}

}  // namespace thaw::sim
