#include "node/pull/range_plan.h"

#include <algorithm>

namespace thaw::node::pull {

void RangeSet::add(Range range) {
  if (range.begin >= range.end) return;
  auto next = ranges_.upper_bound(range.begin);
  if (next != ranges_.begin()) {
    const auto before = std::prev(next);
    if (before->second >= range.begin) {
      range.begin = before->first;
      range.end = std::max(range.end, before->second);
      ranges_.erase(before);
    }
  }
  while (next != ranges_.end() && next->first <= range.end) {
    range.end = std::max(range.end, next->second);
    next = ranges_.erase(next);
  }
  ranges_.emplace(range.begin, range.end);
}

void RangeSet::remove(Range range) {
  if (range.begin >= range.end) return;
  auto at = ranges_.upper_bound(range.begin);
  if (at != ranges_.begin()) --at;
  while (at != ranges_.end() && at->first < range.end) {
    const auto [begin, end] = *at;
    if (end <= range.begin) {
      ++at;
      continue;
    }
    at = ranges_.erase(at);
    if (begin < range.begin) ranges_.emplace(begin, range.begin);
    if (end > range.end) at = ranges_.emplace(range.end, end).first;
  }
}

std::uint64_t RangeSet::bytes() const {
  std::uint64_t sum = 0;
  for (const auto& [begin, end] : ranges_) sum += end - begin;
  return sum;
}

std::uint64_t RangeSet::prefix() const {
  return ranges_.empty() || ranges_.begin()->first > 0 ? 0 : ranges_.begin()->second;
}

std::optional<Range> RangeSet::first_gap(std::uint64_t from, std::uint64_t end) const {
  auto next = ranges_.upper_bound(from);
  if (next != ranges_.begin() && std::prev(next)->second > from) from = std::prev(next)->second;
  if (from >= end) return std::nullopt;
  // Ranges do not touch: what begins next begins later.
  return Range{from, next == ranges_.end() ? end : std::min(end, next->first)};
}

std::vector<Range> RangeSet::ranges() const {
  std::vector<Range> all;
  for (const auto& [begin, end] : ranges_) all.push_back({begin, end});
  return all;
}

RangePlan::RangePlan(std::uint64_t total_bytes, const RangeSet& have, std::size_t connections)
    : total_(total_bytes), connections_(std::max<std::size_t>(connections, 1)), claimed_(have) {}

std::uint64_t RangePlan::worth_asking_for(base::Duration wait, double bytes_per_s) {
  constexpr double kTimes = 20;
  const double bytes = kTimes * base::to_s(wait) * bytes_per_s;
  return static_cast<std::uint64_t>(std::clamp(bytes, static_cast<double>(kUsual), static_cast<double>(kLongest)));
}

std::optional<Range> RangePlan::claim(std::uint64_t longest) {
  auto gap = claimed_.first_gap(0, total_);
  if (!gap) return std::nullopt;
  const std::uint64_t missing = total_ - claimed_.bytes();
  const std::uint64_t piece = std::clamp(missing / (2 * connections_), kShortest, std::max(longest, kShortest));
  gap->end = std::min(gap->end, (gap->begin + piece) / kShortest * kShortest);
  claimed_.add(*gap);
  return gap;
}

}  // namespace thaw::node::pull
