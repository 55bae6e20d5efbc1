#include "node/cpu/turns.h"

#include <utility>
#include <vector>

#include "node/sandbox/clock.h"

namespace thaw::node {
namespace {

constexpr auto kTurn = base::Millis(25);  // several tokens of a small model, a fraction of one of a large
constexpr auto kLookInterval = base::Millis(200);
constexpr auto kYieldInterval =
    base::Millis(200);  // two of the kernel's periods: it adds up what was held up at the end of one
// Three quarters of the processors in use: one that gives way may get nothing.
constexpr int kWantedShare = 3;
constexpr int kWantedOf = 4;
constexpr auto kUsedAtLeast = std::chrono::microseconds(50);  // less is housekeeping

}  // namespace

CpuTurns::CpuTurns(unsigned processors)
    : processors_(processors), yields_looked_at_(now()), thread_([this] { work(); }) {}

CpuTurns::~CpuTurns() {
  {
    const std::lock_guard lock(mutex_);
    end_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void CpuTurns::add(base::InstanceId instance, const std::string& whose, const Cgroup& group,
                   std::uint64_t weights_bytes, unsigned threads, bool weights_there) {
  {
    const std::lock_guard lock(mutex_);
    const base::TimePoint begun = now();
    std::erase_if(yielded_, [&](const auto& entry) { return entry.second.until() <= begun; });
    const auto before = yielded_.extract(whose);
    const Yielding yielding = before.empty() ? Yielding() : before.mapped();
    if (yielding.yields()) (void)group.set_cpu_idle(true);
    engines_.insert_or_assign(instance, Engine{.whose = whose,
                                               .group = group,
                                               .weights_bytes = weights_bytes,
                                               .threads = threads,
                                               .weights_there = weights_there,
                                               .begun = begun,
                                               .used_before = group.cpu_time(),
                                               .last_used = begun,
                                               .held_up = group.cpu_held_up(),
                                               .yielding = yielding});
    look_now_ = true;
  }
  changed_.notify_all();
}

void CpuTurns::weights_there(base::InstanceId instance) {
  const std::lock_guard lock(mutex_);
  if (const auto found = engines_.find(instance); found != engines_.end()) found->second.weights_there = true;
}

void CpuTurns::remove(base::InstanceId instance) {
  {
    const std::lock_guard lock(mutex_);
    const auto found = engines_.find(instance);
    if (found == engines_.end()) return;
    // It may only rest, and come back.
    if (found->second.yielding.yields()) {
      (void)found->second.group.set_cpu_idle(false);
      yielded_.insert_or_assign(found->second.whose, found->second.yielding);
    }
    if (found->second.cpu_weight != kUsualCpuWeight) (void)found->second.group.set_cpu_weight(kUsualCpuWeight);
    engines_.erase(found);
    look_now_ = true;  // who is left may have the processors alone
  }
  changed_.notify_all();
}

void CpuTurns::work() {
  std::unique_lock lock(mutex_);
  bool contended = false;
  while (!end_) {
    // The last one's weight may have to be set back once.
    if (engines_.size() < 2 && !look_now_)
      changed_.wait(lock, [this] { return end_ || look_now_; });
    else
      changed_.wait_for(lock, contended ? kTurn : kLookInterval, [this] { return end_ || look_now_; });
    look_now_ = false;
    contended = look_locked();
  }
}

/// A group that is going away is no error, and one that cannot be set is as it would be without turns.
void CpuTurns::set_weight(Engine& engine, unsigned weight) {
  if (engine.yielding.yields()) return;  // it has none
  if (std::exchange(engine.cpu_weight, weight) != weight) (void)engine.group.set_cpu_weight(weight);
}

void CpuTurns::look_who_yields_locked(base::TimePoint time) {
  const base::Duration since = time - yields_looked_at_;
  if (since < kYieldInterval) return;
  yields_looked_at_ = time;
  base::Duration used{};
  for (auto& [id, engine] : engines_) used += engine.used - std::exchange(engine.used_then, engine.used);
  const bool wanted = used >= since / kWantedOf * kWantedShare * processors_;
  for (auto& [id, engine] : engines_) {
    const base::Duration held_up = engine.group.cpu_held_up();
    const bool did = engine.yielding.yields();
    const bool does = engine.yielding.look({.at = time,
                                            .since_last = since,
                                            .held_up = held_up - std::exchange(engine.held_up, held_up),
                                            .processors_wanted = wanted});
    if (does == did) continue;
    (void)engine.group.set_cpu_idle(does);
    engine.cpu_weight = kUsualCpuWeight;  // the kernel sets it back
  }
}

/// Returns whether they compete.
bool CpuTurns::look_locked() {
  const base::TimePoint time = now();
  for (auto& [id, engine] : engines_) {
    const base::Duration used = engine.group.cpu_time() - engine.used_before;
    const base::Duration lately = used - std::exchange(engine.used, used);
    if (lately >= kUsedAtLeast) engine.last_used = time;
  }
  look_who_yields_locked(time);
  std::vector<CpuClaim> claims;
  for (const auto& [id, engine] : engines_)
    claims.push_back({.weights_bytes = engine.weights_bytes,
                      .threads = engine.threads,
                      .used = engine.used,
                      .age = time - engine.begun,
                      .last_turn = engine.last_turn,
                      .idle_for = time - engine.last_used,
                      .waits_for_weights = !engine.weights_there,
                      .held_back = engine.rank > 1,
                      .yields = engine.yielding.yields()});
  const CpuPlan plan = plan_cpu_turns(claims, processors_, ++turn_);
  std::size_t i = 0;
  for (auto& [id, engine] : engines_) {
    engine.rank = plan.ranks[i];
    if (engine.rank == 0) engine.last_turn = turn_;
    set_weight(engine, plan.cpu_weights[i]);
    ++i;
  }
  return plan.contended;
}

}  // namespace thaw::node
