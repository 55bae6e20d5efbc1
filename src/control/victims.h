#pragma once

#include <cstdint>
#include <vector>

#include "base/time.h"

namespace thaw::control {

struct Instance;

/// A replica that may make room for another model, from `at` on.
struct Candidate {
  Instance* instance = nullptr;
  std::uint64_t bytes = 0;
  double value = 0;                ///< what losing it is expected to cost: starts per second times their seconds
  base::TimePoint idle_since{};    ///< among equals the longest idle goes first
  base::TimePoint at{};
};

/// Those of `candidates` that free at least `need` bytes for the least total value, or none if all of them do not.
/// The exact optimum is a minimum knapsack (NP-hard); this is the greedy of Csirik, Frenk, Labbé and Zhang (1991), at most
/// twice the optimum.
std::vector<Candidate> choose_victims(std::vector<Candidate> candidates, std::uint64_t need);

/// When the candidates that are evictable by then free `need` bytes; never() if they never do.
base::TimePoint enough_at(std::vector<Candidate> candidates, std::uint64_t need);

}  // namespace thaw::control
