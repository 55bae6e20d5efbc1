#include "node/sandbox/namespace_thread.h"

#include <utility>

namespace thaw::node {

NamespaceThread::NamespaceThread() : thread_([this] { loop(); }) {}

NamespaceThread::~NamespaceThread() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

base::Status NamespaceThread::run(const std::function<base::Status()>& work) {
  const std::lock_guard turn(turn_);
  std::unique_lock lock(mutex_);
  work_ = &work;
  done_ = false;
  changed_.notify_all();
  changed_.wait(lock, [this] { return done_; });
  return std::exchange(result_, {});
}

void NamespaceThread::loop() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return closing_ || work_ != nullptr; });
    if (work_ == nullptr) return;
    const auto& work = *std::exchange(work_, nullptr);
    lock.unlock();
    base::Status result = work();
    lock.lock();
    result_ = std::move(result);
    done_ = true;
    changed_.notify_all();
  }
}

}  // namespace thaw::node
