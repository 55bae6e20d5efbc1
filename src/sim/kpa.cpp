#include "sim/kpa.h"

#include <algorithm>
#include <cmath>

namespace thaw::sim {

void KpaWindows::advance(base::TimePoint now) {
  constexpr base::Duration kBucket = base::Seconds(1);
  while (at_ < now) {
    const base::TimePoint end_of_bucket(kBucket * (at_.time_since_epoch() / kBucket + 1));
    const base::TimePoint until = std::min(now, end_of_bucket);
    present_ += concurrency_ * base::to_s(until - at_);
    any_ = any_ || concurrency_ > 0;
    at_ = until;
    if (at_ != end_of_bucket) continue;
    buckets_[at_bucket_] = present_;
    at_bucket_ = (at_bucket_ + 1) % kStable;
    idle_buckets_ = any_ ? 0 : std::min(idle_buckets_ + 1, kStable);
    present_ = 0;
    any_ = false;
    if (concurrency_ == 0 && idle_buckets_ >= kStable && now - at_ > kBucket) {  // nothing to remember: skip the rest
      buckets_.fill(0);
      at_ = base::TimePoint(kBucket * (now.time_since_epoch() / kBucket));
    }
  }
}

void KpaWindows::note(base::TimePoint now, std::uint32_t concurrency) {
  advance(now);
  concurrency_ = concurrency;
  any_ = any_ || concurrency > 0;
}

double KpaWindows::average(std::size_t buckets) const {
  double sum = 0;
  for (std::size_t n = 1; n <= buckets; ++n) sum += buckets_[(at_bucket_ + kStable - n) % kStable];
  return sum / static_cast<double>(buckets);
}

std::uint32_t KpaWindows::look(base::TimePoint now, std::uint32_t ready, std::uint32_t capacity) {
  advance(now);
  const double target = kTarget * capacity;
  const auto replicas = [&](double concurrency) { return static_cast<std::uint32_t>(std::ceil(concurrency / target)); };
  std::uint32_t stable = replicas(average(kStable));
  const std::uint32_t panic = replicas(average(kPanic));
  if (stable == 0 && idle_buckets_ < kStable) stable = 1;  // the last one leaves after a whole window without traffic
  const double have = std::max(ready, 1U);
  if (panic / have >= kPanicAt) {
    if (!panicking_) panic_replicas_ = ready;
    panicking_ = true;
    panic_since_ = now;
  } else if (panicking_ && now - panic_since_ > base::Seconds(kStable)) {
    panicking_ = false;
  }
  if (panicking_) return panic_replicas_ = std::max({panic_replicas_, panic, stable});
  const auto least = static_cast<std::uint32_t>(std::floor(ready / kMaxDown));
  return stable == 0 ? 0 : std::max({stable, least, 1U});
}

}  // namespace thaw::sim
