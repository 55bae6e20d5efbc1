#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <thread>

#include "base/ids.h"
#include "base/time.h"
#include "node/cpu/turns_plan.h"
#include "node/sandbox/cgroup.h"

namespace thaw::node {

/// Lets engines that compute on the CPU take turns (turns_plan.h). Its thread sleeps while there are fewer than two,
/// looks five times a second while there are more, and forty times while they compete. Any thread.
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
  void add(base::InstanceId instance, const Cgroup& group, std::uint64_t weights_bytes, unsigned threads,
           bool weights_there);
  void weights_there(base::InstanceId instance);
  /// Nothing of the group is touched any more when this returns. Unknown instances are fine.
  void remove(base::InstanceId instance);

 private:
  struct Engine {
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
  };

  void work();
  bool look_locked();

  const unsigned processors_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<base::InstanceId, Engine> engines_;
  std::uint64_t turn_ = 0;
  bool look_now_ = false;
  bool end_ = false;
  std::thread thread_;
};

}  // namespace thaw::node
