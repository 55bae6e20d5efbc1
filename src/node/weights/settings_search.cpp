#include "node/weights/settings_search.h"

#include <algorithm>

namespace thaw::node {
namespace {

constexpr double kAsGood = 0.97;
constexpr std::size_t kFinalists = 5;
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
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) { return a.median() > b.median(); });
  candidates.resize(std::min(candidates.size(), kFinalists));
  THAW_RETURN_IF_ERROR(run_rounds(search, candidates, kMaxRounds, end));

  double fastest = 0;
  for (const Candidate& candidate : candidates) fastest = std::max(fastest, candidate.median());
  const Candidate* chosen = nullptr;
  for (const Candidate& candidate : candidates) {
    if (candidate.median() < fastest * kAsGood) continue;
    if (chosen == nullptr || candidate.settings.memory_bytes() < chosen->settings.memory_bytes()) chosen = &candidate;
  }
  return FoundSettings{chosen->settings, chosen->median()};
}

}  // namespace thaw::node
