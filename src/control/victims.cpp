#include "control/victims.h"

#include <algorithm>

namespace thaw::control {

namespace {

double total_value(const std::vector<Candidate>& set) {
  double sum = 0;
  for (const Candidate& c : set) sum += c.value;
  return sum;
}

}  // namespace

std::vector<Candidate> choose_victims(std::vector<Candidate> candidates, std::uint64_t need) {
  std::stable_sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    const double left = a.value * static_cast<double>(b.bytes);
    const double right = b.value * static_cast<double>(a.bytes);
    return left != right ? left < right : a.idle_since < b.idle_since;
  });
  std::vector<Candidate> greedy;
  std::uint64_t freed = 0;
  for (const Candidate& c : candidates) {
    if (freed >= need) break;
    greedy.push_back(c);
    freed += c.bytes;
  }
  if (freed < need) return {};
  for (std::size_t n = greedy.size(); n-- > 0;) {  // the dearest first
    if (freed - greedy[n].bytes < need) continue;
    freed -= greedy[n].bytes;
    greedy.erase(greedy.begin() + static_cast<std::ptrdiff_t>(n));
  }
  const Candidate* single = nullptr;
  for (const Candidate& c : candidates) {
    if (c.bytes >= need && (single == nullptr || c.value < single->value)) single = &c;
  }
  if (single != nullptr && single->value < total_value(greedy)) return {*single};
  return greedy;
}

base::TimePoint enough_at(std::vector<Candidate> candidates, std::uint64_t need) {
  std::stable_sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) { return a.at < b.at; });
  std::uint64_t freed = 0;
  for (const Candidate& c : candidates) {
    freed += c.bytes;
    if (freed >= need) return c.at;
  }
  return base::never();
}

}  // namespace thaw::control
