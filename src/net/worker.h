#pragma once

#include <condition_variable>
#include <coroutine>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "net/loop.h"

namespace thaw::net {

/// Takes blocking work (a disk write, a look into a file) off the loop: `co_await worker.run([&] { return store.models(); })`.
/// At most kMaxWaiting pieces may wait; they are started in order. The destructor finishes what was started and waits for its threads;
/// work that was not started is dropped, so destroy it only when no coroutine waits on it any more.
class Worker {
 public:
  static constexpr std::size_t kMaxWaiting = 4096;

  Worker(Loop& loop, std::size_t threads);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  template <typename Work>
  auto run(Work work) {
    return Offload<Work>{*this, std::move(work), {}};
  }

  /// Work nobody waits for. False when too much waits already.
  bool submit(std::function<void()> work);

 private:
  template <typename Work>
  struct Offload {
    using Value = std::invoke_result_t<Work>;
    Worker& worker;
    Work work;
    std::optional<Value> value;

    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> handle) {
      const bool accepted = worker.submit([this, handle] {
        value.emplace(work());
        worker.loop_.post([handle] { handle.resume(); });
      });
      if (!accepted) value.emplace(work());  // overloaded: the loop pays, which slows down whoever asks
      return accepted;
    }
    Value await_resume() { return std::move(*value); }
  };

  void serve();

  Loop& loop_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> waiting_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace thaw::net
