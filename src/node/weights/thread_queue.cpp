#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "node/weights/read_queue.h"

namespace thaw::node {
namespace {

constexpr std::size_t kMaxThreads = 4;

class ThreadQueue : public ReadQueue {
 public:
  explicit ThreadQueue(const ReadSlots& slots) : slots_(slots) {
    for (std::size_t i = 0; i < std::min(kMaxThreads, slots.size()); ++i) threads_.emplace_back([this] { work(); });
  }
  ThreadQueue(const ThreadQueue&) = delete;
  ThreadQueue& operator=(const ThreadQueue&) = delete;
  ~ThreadQueue() override {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
    }
    asked_changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  void begin(unsigned slot, std::uint64_t from, int fd, std::uint64_t offset, std::uint64_t bytes) override {
    {
      const std::lock_guard lock(mutex_);
      asked_.push_back({slot, slots_[slot].data() + from, fd, offset, bytes});
    }
    asked_changed_.notify_one();
  }

  base::Result<ReadCompletion> wait() override {
    std::unique_lock lock(mutex_);
    ended_changed_.wait(lock, [this] { return !ended_.empty(); });
    const ReadCompletion ended = ended_.front();
    ended_.pop_front();
    return ended;
  }

 private:
  struct Read {
    unsigned slot;
    std::byte* into;
    int fd;
    std::uint64_t offset;
    std::uint64_t bytes;
  };

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      asked_changed_.wait(lock, [this] { return ending_ || !asked_.empty(); });
      if (ending_) return;
      const Read read = asked_.front();
      asked_.pop_front();
      lock.unlock();
      const ssize_t got = ::pread(read.fd, read.into, read.bytes, static_cast<off_t>(read.offset));
      const std::int64_t result = got < 0 ? -errno : got;
      lock.lock();
      ended_.push_back({read.slot, result});
      ended_changed_.notify_one();
    }
  }

  ReadSlots slots_;
  std::mutex mutex_;
  std::condition_variable asked_changed_;
  std::condition_variable ended_changed_;
  std::deque<Read> asked_;  // no longer than slots_, and so is ended_
  std::deque<ReadCompletion> ended_;
  bool ending_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace

std::unique_ptr<ReadQueue> make_thread_queue(const ReadSlots& slots) { return std::make_unique<ThreadQueue>(slots); }

}  // namespace thaw::node
