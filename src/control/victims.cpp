#include "control/victims.h"

#include <algorithm>

namespace thaw::control {

namespace {

double total_value(const std::vector<Candidate>& set) {
  double sum = 0;
  for (const Candidate& c : set) sum += c.value;
  return sum;
}

/// Later members may make earlier ones unnecessary; the dearest goes first.
void drop_superfluous(std::vector<Candidate>& set, std::uint64_t need) {
  std::uint64_t freed = 0;
  for (const Candidate& c : set) freed += c.bytes;
  for (std::size_t n = set.size(); n-- > 0;) {
    if (freed - set[n].bytes < need) continue;
    freed -= set[n].bytes;
    set.erase(set.begin() + static_cast<std::ptrdiff_t>(n));
  }
}

}  // namespace

std::vector<Candidate> choose_victims(std::vector<Candidate> candidates, std::uint64_t need) {
  std::stable_sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    const double left = a.value * static_cast<double>(b.bytes);
    const double right = b.value * static_cast<double>(a.bytes);
    return left != right ? left < right : a.idle_since < b.idle_since;
  });
  // In that order, each candidate either completes the set (one solution to compare) or joins it (and is too small to).
  std::vector<Candidate> set, best;
  std::uint64_t freed = 0;
  for (const Candidate& c : candidates) {
    set.push_back(c);
    if (freed + c.bytes < need) {
      freed += c.bytes;
      continue;
    }
    if (best.empty() || total_value(set) < total_value(best)) best = set;
    set.pop_back();
  }
  drop_superfluous(best, need);
  return best;
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
