#include "node/cpu/turns.h"

#include <utility>
#include <vector>

#include "node/sandbox/clock.h"

namespace thaw::node {
namespace {

constexpr auto kTurn = base::Millis(25);  // several tokens of a small model, a fraction of one of a large
constexpr auto kLookInterval = base::Millis(200);
constexpr auto kUsedAtLeast = std::chrono::microseconds(50);  // less is housekeeping

}  // namespace

CpuTurns::CpuTurns(unsigned processors) : processors_(processors), thread_([this] { work(); }) {}

CpuTurns::~CpuTurns() {
  {
    const std::lock_guard lock(mutex_);
    end_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void CpuTurns::add(base::InstanceId instance, const Cgroup& group, std::uint64_t weights_bytes, unsigned threads,
                   bool weights_there) {
  {
    const std::lock_guard lock(mutex_);
    const base::TimePoint begun = now();
    engines_.insert_or_assign(instance,
                              Engine{group, weights_bytes, threads, weights_there, begun, group.cpu_time(), {}, begun});
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

/// Returns whether they compete.
bool CpuTurns::look_locked() {
  const base::TimePoint time = now();
  std::vector<CpuClaim> claims;
  for (auto& [id, engine] : engines_) {
    const base::Duration used = engine.group.cpu_time() - engine.used_before;
    const base::Duration lately = used - std::exchange(engine.used, used);
    if (lately >= kUsedAtLeast) engine.last_used = time;
    claims.push_back({.weights_bytes = engine.weights_bytes,
                      .threads = engine.threads,
                      .used = used,
                      .age = time - engine.begun,
                      .last_turn = engine.last_turn,
                      .idle_for = time - engine.last_used,
                      .waits_for_weights = !engine.weights_there,
                      .held_back = engine.rank > 1});
  }
  const CpuPlan plan = plan_cpu_turns(claims, processors_, ++turn_);
  std::size_t i = 0;
  for (auto& [id, engine] : engines_) {
    engine.rank = plan.ranks[i];
    if (engine.rank == 0) engine.last_turn = turn_;
    // A group that is going away is no error, and one that cannot be set is as it would be without turns.
    if (std::exchange(engine.cpu_weight, plan.cpu_weights[i]) != plan.cpu_weights[i])
      (void)engine.group.set_cpu_weight(plan.cpu_weights[i]);
    ++i;
  }
  return plan.contended;
}

}  // namespace thaw::node
