#include "sim/link.h"

#include <algorithm>
#include <cassert>
#include <cmath>

namespace thaw::sim {

void Link::advance(base::TimePoint now) {
  assert(now >= at_);
  if (!done_at_.empty()) virtual_ += base::to_s(now - at_) * bytes_per_s_ / static_cast<double>(done_at_.size());
  at_ = now;
}

void Link::add(std::uint64_t who, double bytes, base::TimePoint now) {
  advance(now);
  if (done_at_.empty()) virtual_ = 0;  // nobody remembers it, and small numbers are more exact
  assert(of_.count(who) == 0);
  of_.emplace(who, virtual_ + bytes);
  done_at_.emplace(virtual_ + bytes, who);
  ++generation_;
}

void Link::remove(std::uint64_t who, base::TimePoint now) {
  const auto found = of_.find(who);
  if (found == of_.end()) return;
  advance(now);
  done_at_.erase({found->second, who});
  of_.erase(found);
  ++generation_;
}

base::TimePoint Link::next() const {
  if (done_at_.empty()) return base::never();
  const double left_s =
      std::max(done_at_.begin()->first - virtual_, 0.0) * static_cast<double>(done_at_.size()) / bytes_per_s_;
  return at_ + base::Duration(static_cast<std::int64_t>(std::ceil(left_s * 1e9)));
}

std::uint64_t Link::pop(base::TimePoint now) {
  assert(!done_at_.empty());
  advance(now);
  const auto [at, who] = *done_at_.begin();
  virtual_ = std::max(virtual_, at);
  done_at_.erase(done_at_.begin());
  of_.erase(who);
  ++generation_;
  return who;
}

double Link::bytes_left(base::TimePoint now) const {
  double left = 0;
  for (const auto& [at, who] : done_at_) left += std::max(at - virtual_, 0.0);
  return std::max(left - base::to_s(now - at_) * bytes_per_s_, 0.0);
}

}  // namespace thaw::sim
