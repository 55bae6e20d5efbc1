#include "node/event_queue.h"

namespace thaw::node {

EventQueue::EventQueue(std::function<void(wire::NodeEvent)> sink) : sink_(std::move(sink)), thread_([this] { deliver(); }) {}

EventQueue::~EventQueue() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

void EventQueue::push(wire::NodeEvent event) {
  {
    const std::lock_guard lock(mutex_);
    events_.push_back(std::move(event));
  }
  changed_.notify_one();
}

void EventQueue::deliver() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return closing_ || !events_.empty(); });
    if (events_.empty()) return;
    const wire::NodeEvent event = std::move(events_.front());
    events_.pop_front();
    lock.unlock();
    sink_(event);
    lock.lock();
  }
}

}  // namespace thaw::node
