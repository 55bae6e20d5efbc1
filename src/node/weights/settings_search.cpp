#include "node/weights/settings_search.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace thaw::node {
namespace {

constexpr double kAsGood = 0.97;
constexpr double kPerhapsAsGood = 0.9;  // after two samples each
constexpr std::size_t kFastest = 3;     // that are looked at more closely
constexpr std::size_t kFamiliar = 3;
constexpr unsigned kMaxRounds = 50;
constexpr unsigned kFirstRounds = 2;

struct Candidate {
  ReadSettings settings;
  std::vector<double> rates;

  [[nodiscard]] double median() const {
    std::vector<double> sorted = rates;
    std::sort(sorted.begin(), sorted.end());
    const std::size_t middle = sorted.size() / 2;
    if (sorted.empty()) return 0;
    return sorted.size() % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  }
};

/// How far from the defaults: they suit most disks, and what is hardly faster in one moment is not in the next.
double distance(const ReadSettings& settings) {
  const ReadSettings defaults;
  const auto far = [](std::uint64_t a, std::uint64_t b) {
    return std::abs(std::log2(static_cast<double>(a) / static_cast<double>(b)));
  };
  return 10 * far(settings.memory_bytes(), defaults.memory_bytes()) + far(settings.chunk_bytes, defaults.chunk_bytes);
}

bool more_familiar(const Candidate& a, const Candidate& b) { return distance(a.settings) < distance(b.settings); }

/// The fastest few, and of those that may be as fast the few nearest to the defaults.
std::vector<Candidate> finalists_of(std::vector<Candidate> all) {
  std::stable_sort(all.begin(), all.end(),
                   [](const Candidate& a, const Candidate& b) { return a.median() > b.median(); });
  const double good = all.front().median() * kPerhapsAsGood;
  const auto rest = all.begin() + static_cast<std::ptrdiff_t>(std::min(kFastest, all.size()));
  const auto too_slow = std::partition_point(
      rest, all.end(), [good](const Candidate& candidate) { return candidate.median() >= good; });
  std::stable_sort(rest, too_slow, more_familiar);
  const auto familiar = static_cast<std::ptrdiff_t>(kFamiliar);
  all.erase(too_slow - rest > familiar ? rest + familiar : too_slow, all.end());
  return all;
}

/// Samples each candidate once a round, for as long as there is time: of a slow disk only the first few are tried,
/// those that need little memory.
base::Status run_rounds(const SettingsSearch& search, std::vector<Candidate>& candidates, unsigned rounds,
                        base::TimePoint end) {
  for (unsigned round = 0; round < rounds; ++round)
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      if (search.now() >= end && (round > 0 || i > 0)) return {};
      Candidate& candidate = candidates[(i + round) % candidates.size()];  // beginning with another one each time
      THAW_ASSIGN_OR_RETURN(const double rate, search.sample(candidate.settings));
      candidate.rates.push_back(rate);
    }
  return {};
}

}  // namespace

std::vector<ReadSettings> settings_candidates() {
  std::vector<ReadSettings> all;
  for (const std::uint64_t chunk_bytes : {256ULL << 10, 512ULL << 10, 1ULL << 20, 2ULL << 20, 4ULL << 20})
    for (const std::uint32_t depth : {2U, 4U, 8U, 16U, 32U})
      if (chunk_bytes * depth >= (1ULL << 20) && chunk_bytes * depth <= kMaxSearchedMemoryBytes)
        all.push_back({chunk_bytes, depth});
  std::stable_sort(all.begin(), all.end(),
                   [](const ReadSettings& a, const ReadSettings& b) { return a.memory_bytes() < b.memory_bytes(); });
  return all;
}

base::Result<FoundSettings> search_settings(const SettingsSearch& search) {
  std::vector<Candidate> candidates;
  for (const ReadSettings& settings : settings_candidates()) candidates.push_back({settings, {}});
  const base::TimePoint begun = search.now();
  const base::TimePoint end = begun + search.budget;
  THAW_RETURN_IF_ERROR(run_rounds(search, candidates, kFirstRounds, begun + search.budget / 2));
  candidates = finalists_of(std::move(candidates));
  THAW_RETURN_IF_ERROR(run_rounds(search, candidates, kMaxRounds, end));

  double fastest = 0;
  for (const Candidate& candidate : candidates) fastest = std::max(fastest, candidate.median());
  const Candidate* chosen = nullptr;
  for (const Candidate& candidate : candidates) {
    if (candidate.median() < fastest * kAsGood) continue;
    if (chosen == nullptr || more_familiar(candidate, *chosen)) chosen = &candidate;
  }
  return FoundSettings{chosen->settings, chosen->median()};
}

}  // namespace thaw::node
