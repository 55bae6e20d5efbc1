#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "node/tiers/driver.h"

namespace thaw::node {

/// The problem: a call into a GPU's driver may last for ever and cannot be cut short, while whoever makes it has a
/// deadline. So such calls are made by threads that can afford to wait, a few for each device (its bus is shared by all
/// of them), and whoever asked waits no longer than it has time. Any thread. The destructor waits for calls that are
/// under way: whoever uses it kills the processes that they are about first.
class DeviceLanes {
 public:
  explicit DeviceLanes(unsigned per_device) : per_device_(per_device) {}
  ~DeviceLanes();
  DeviceLanes(const DeviceLanes&) = delete;
  DeviceLanes& operator=(const DeviceLanes&) = delete;

  struct Ran {
    base::Status status;  ///< of the work; or timeout, unavailable: the call ended first
    bool under_way =
        false;  ///< the work goes on and its outcome is unknown; false with a failure of the call: it never began
  };
  /// Has `work` done on that device for that instance, and waits for it as long as the call lasts.
  Ran run(const base::DeviceId& device, base::InstanceId instance, const TierCall& call,
          std::function<base::Status()> work);

  /// Waits until no work for this instance is under way; false at the deadline.
  bool wait_idle(base::InstanceId instance, base::TimePoint deadline);

 private:
  struct Work {
    base::InstanceId instance;
    std::function<base::Status()> run;
    enum class State { waiting, running, done } state = State::waiting;
    base::Status status;
  };
  struct Lane {
    std::deque<std::shared_ptr<Work>> waiting;
    std::vector<std::thread> threads;
  };

  void serve(Lane& lane);

  const unsigned per_device_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::map<base::DeviceId, Lane> lanes_;  ///< never shrinks: there are as many as devices
  std::map<base::InstanceId, int> running_;
  bool closing_ = false;
};

}  // namespace thaw::node
