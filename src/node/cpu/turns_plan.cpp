#include "node/cpu/turns_plan.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <tuple>

namespace thaw::node {
namespace {

// Each rank has eight times the next one's: with three engines that want all processors the first has 86 % of them.
constexpr std::array<unsigned, 5> kWeightOfRank{kMostCpuWeight, 1'250, 156, 20, 2};
constexpr std::uint64_t kTurnOfTheOthers = 4;
// Linking and setting up, then a first prompt: quantised weights are repacked first, which takes about two processor
// seconds a GB.
constexpr auto kFreshUse = base::Millis(300);
constexpr auto kFreshUsePerGB = base::Millis(3000);
constexpr auto kFreshAge = base::Seconds(10);
constexpr auto kIdleAfter = base::Millis(100);
constexpr auto kIdleAfterHeldBack = base::Seconds(1);
constexpr std::size_t kRankOfIdle = 1;

bool is_fresh(const CpuClaim& claim) {
  const auto gigabytes = static_cast<double>(claim.weights_bytes) / 1e9;
  const auto allowed = std::chrono::duration<double, base::Millis::period>(kFreshUsePerGB) * gigabytes + kFreshUse;
  return claim.age < kFreshAge && claim.used < allowed;
}

bool is_idle(const CpuClaim& claim) {
  return claim.idle_for >= (claim.held_back ? kIdleAfterHeldBack : kIdleAfter);
}

}  // namespace

CpuPlan plan_cpu_turns(const std::vector<CpuClaim>& claims, unsigned processors, std::uint64_t turn) {
  CpuPlan plan;
  plan.cpu_weights.assign(claims.size(), kUsualCpuWeight);
  plan.ranks.assign(claims.size(), 0);

  std::vector<std::size_t> order;
  unsigned wanted = 0;
  for (std::size_t i = 0; i < claims.size(); ++i) {
    if (claims[i].yields || is_idle(claims[i])) continue;
    order.push_back(i);
    wanted += claims[i].threads;
  }
  plan.contended = order.size() > 1 && wanted > processors;
  if (!plan.contended) return plan;

  const bool fresh_first = turn % kTurnOfTheOthers != 0;
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    const auto key = [&](std::size_t i) {
      const bool fresh = is_fresh(claims[i]);
      return std::tuple(fresh != fresh_first, claims[i].waits_for_weights,
                        fresh ? claims[i].weights_bytes : claims[i].last_turn, i);
    };
    return key(a) < key(b);
  });

  plan.ranks.assign(claims.size(), kRankOfIdle);
  unsigned rank = 0;
  unsigned taken = 0;
  for (const std::size_t i : order) {
    // The next rank begins with whom this one's processors do not suffice for.
    if (taken > 0 && taken + claims[i].threads > processors) {
      ++rank;
      taken = 0;
    }
    taken += claims[i].threads;
    plan.ranks[i] = rank;
  }
  for (std::size_t i = 0; i < claims.size(); ++i)
    plan.cpu_weights[i] = kWeightOfRank[std::min<std::size_t>(plan.ranks[i], kWeightOfRank.size() - 1)];
  return plan;
}

}  // namespace thaw::node
