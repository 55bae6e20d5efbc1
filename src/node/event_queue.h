#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "wire/messages.h"

namespace thaw::node {

/// The problem: events come from several threads, must reach the controller in the order in which they became true (ready before down before gone),
/// and its sink is somebody else's code that must never run under a lock of ours. So they are queued under the lock that made them true
/// and delivered by one thread. Bounded by the commands that cause events: at most five a command.
class EventQueue {
 public:
  explicit EventQueue(std::function<void(wire::NodeEvent)> sink);
  /// Delivers what is queued, then ends.
  ~EventQueue();
  EventQueue(const EventQueue&) = delete;
  EventQueue& operator=(const EventQueue&) = delete;

  void push(wire::NodeEvent event);

 private:
  void deliver();

  std::function<void(wire::NodeEvent)> sink_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<wire::NodeEvent> events_;
  bool closing_ = false;
  std::thread thread_;
};

}  // namespace thaw::node
