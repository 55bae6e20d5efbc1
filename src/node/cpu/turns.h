#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "base/ids.h"
#include "base/time.h"
#include "node/cpu/turns_plan.h"
#include "node/cpu/yielding.h"
#include "node/sandbox/cgroup.h"

namespace thaw::node {

/// Lets engines that compute on the CPU take turns (turns_plan.h), and those that run into their limit give way
/// (yielding.h). Its thread sleeps while there are fewer than two, looks five times a second while there are more, and
/// forty times while they compete. Any thread.
class CpuTurns {
 public:
  /// `processors`: > 0, those that the engines share.
  explicit CpuTurns(unsigned processors);
  ~CpuTurns();
  CpuTurns(const CpuTurns&) = delete;
  CpuTurns& operator=(const CpuTurns&) = delete;

  [[nodiscard]] unsigned processors() const { return processors_; }

  /// From now on, also before the engine runs. The group must outlive remove(). `weights_there`: none are on their way
  /// any more.
  /// `whose`: the model. One whose last engine ran into its limit until its end gives way from the start.
  void add(base::InstanceId instance, const std::string& whose, const Cgroup& group, std::uint64_t weights_bytes,
           unsigned threads, bool weights_there);
  void weights_there(base::InstanceId instance);
  /// Nothing of the group is touched any more when this returns. Unknown instances are fine.
  void remove(base::InstanceId instance);

 private:
  struct Engine {
    std::string whose;
    Cgroup group;
    std::uint64_t weights_bytes;
    unsigned threads;
    bool weights_there;
    base::TimePoint begun;
    base::Duration used_before;  ///< by the group, when it was added
    base::Duration used{};
    base::TimePoint last_used;
    std::uint64_t last_turn = 0;
    unsigned rank = 0;
    unsigned cpu_weight = kUsualCpuWeight;
    base::Duration held_up{};    ///< by its limit, when it was last seen who yields
    base::Duration used_then{};  ///< then
    Yielding yielding;
  };

  void work();
  bool look_locked();
  void look_who_yields_locked(base::TimePoint time);
  static void set_weight(Engine& engine, unsigned weight);

  const unsigned processors_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<base::InstanceId, Engine> engines_;
  std::map<std::string, Yielding>
      yielded_;  ///< of models whose last engine did until its end; those whose time is over are dropped
  std::uint64_t turn_ = 0;
  base::TimePoint yields_looked_at_;
  bool look_now_ = false;
  bool end_ = false;
  std::thread thread_;
};

}  // namespace thaw::node
