#pragma once

#include <cstdint>
#include <vector>

#include "base/time.h"

/// The problem: llama.cpp's threads wait for each other several times a layer, and wait by spinning. One engine with as
/// many threads as there are processors is quick. Two that run at the same time are far slower than one after the
/// other: whenever a thread has been put aside for the other engine, its siblings burn their time until it is back.
/// Eight small models that wake together took six times as long as their work.
///
/// So engines on the CPU that compete take turns as whole engines: weights of their control groups so far apart that
/// whoever is first has the processors, and the next has what the first leaves. The kernel does the switching; nothing
/// is stopped.
namespace thaw::node {

/// What is known of one engine that computes on this host's processors.
struct CpuClaim {
  std::uint64_t weights_bytes = 0;
  unsigned threads = 1;         ///< that it computes with, > 0
  base::Duration used{};        ///< processor time since it began
  base::Duration age{};         ///< since it began
  std::uint64_t last_turn = 0;  ///< number of the plan in which it was first; 0: never
  base::Duration idle_for{};    ///< since it was seen to use any
  bool waits_for_weights =
      false;  ///< some are still on their way into memory: its threads spin for the one that waits for them
  bool held_back = false;  ///< by the last plan: that it used nothing then says little
  bool yields = false;     ///< it takes what the others leave (yielding.h), and competes with nobody
};

/// cgroup v2's cpu.weight.
constexpr unsigned kUsualCpuWeight = 100;
constexpr unsigned kMostCpuWeight = 10'000;

struct CpuPlan {
  bool contended = false;             ///< who computes wants more processors than there are
  std::vector<unsigned> cpu_weights;  ///< one a claim, 1 to 10,000; all kUsualCpuWeight when not contended
  std::vector<unsigned> ranks;        ///< 0: whose turn it is; one a claim, all 0 when not contended; of one that yields without meaning
};

/// Who comes first, from now until the next plan. `turn` counts plans from 1. Pure.
///
/// A fresh engine (on its way to its first answer: young, and not more processor time used than that takes) comes
/// before others, the smallest model first, so that none is stuck behind huge ones; but those whose weights are there
/// before those that would spin waiting for them. The others go round. Every fourth turn is theirs, so that nothing
/// starves. An engine that uses nothing (it has answered, or waits for its weights) comes second: it is quick when it
/// goes on, and takes nothing until then. As many come first together as have processors for all their threads.
CpuPlan plan_cpu_turns(const std::vector<CpuClaim>& claims, unsigned processors, std::uint64_t turn);

}  // namespace thaw::node
