#pragma once

#include <sys/epoll.h>

#include <array>
#include <atomic>
#include <coroutine>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"

namespace thaw::net {

class Loop;
class Timer;

/// Wall clock, milliseconds since 1970: for what is stored and shown, never for measuring.
std::int64_t unix_ms();

/// An fd's owner: told of epoll events on the loop's thread.
class Pollable {
 public:
  virtual void on_events(std::uint32_t events) = 0;

 protected:
  ~Pollable() = default;
};

/// One thread's event loop over epoll: the gateway's run loop, without locks. Everything but post() and stop() belongs
/// to the loop's thread. With nothing to do it sleeps in epoll_wait without a timeout: an idle server costs no CPU.
class Loop {
 public:
  static base::Result<std::unique_ptr<Loop>> create();
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  void run();   ///< returns after stop()
  void stop();  ///< any thread

  /// Time at the beginning of this turn of the loop; one clock read a turn.
  [[nodiscard]] base::TimePoint now() const { return now_; }
  /// Reads the clock: for measuring inside a turn.
  static base::TimePoint clock();

  void post(std::function<void()> work);
  /// Resumes `handle` in this turn, after the running handler returned.
  void defer(std::coroutine_handle<> handle) { deferred_.push_back(handle); }

  base::Status watch(int fd, std::uint32_t events, Pollable* owner);
  void change(int fd, std::uint32_t events, Pollable* owner);
  /// Forgets the owner, also in the batch of events being handled. The caller closes the fd.
  void unwatch(int fd, const Pollable* owner);

  /// A buffer that any handler may use until it suspends: reads go here, so that a waiting connection holds none.
  static constexpr std::size_t kScratchBytes = 64 * 1024;
  char* scratch() { return scratch_.get(); }

  /// co_await batch_end(): goes on once the handlers of all other events of this turn have run; at once when there are
  /// none left. Sending then wakes a peer that sleeps once a turn instead of once a message, and what it finds is all
  /// there.
  auto batch_end() { return BatchEnd{*this}; }
  /// A copy of `data` that stays until batch_end() has resumed everybody; nothing when this turn's room for such copies
  /// is used up.
  std::optional<std::string_view> keep(std::string_view data);

 private:
  friend class Timer;
  static constexpr std::size_t kMaxEvents = 512;
  static constexpr std::size_t kMaxLate = 4;  ///< who waits in batch_end(): more would leave the peers idle for too long
  static constexpr std::size_t kKeptBytes = 512 * 1024;  ///< of keep(), a turn; not resident before it is used

  struct BatchEnd {
    Loop& loop;
    bool await_ready() const noexcept { return loop.batch_left_ == 0; }
    void await_suspend(std::coroutine_handle<> handle) { loop.late_.push_back(handle); }
    void await_resume() const noexcept {}
  };

  Loop(int epoll_fd, int wake_fd);
  void wake() const;
  void run_posted();
  void run_deferred();
  void run_late();
  void run_timers();
  [[nodiscard]] int wait_ms() const;

  int epoll_fd_;
  int wake_fd_;
  base::TimePoint now_;
  std::atomic<bool> stopping_{false};
  std::array<epoll_event, kMaxEvents> events_{};
  std::size_t batch_size_ = 0;
  std::size_t batch_left_ = 0;  ///< events of this turn whose handlers have not been called
  std::vector<std::coroutine_handle<>> deferred_;
  std::vector<std::coroutine_handle<>> late_;  ///< resumed when batch_left_ is 0
  std::multimap<base::TimePoint, Timer*> timers_;
  std::unique_ptr<char[]> scratch_;
  std::unique_ptr<char[]> kept_;
  std::size_t kept_bytes_ = 0;
  std::mutex posted_mutex_;
  std::vector<std::function<void()>> posted_;
};

/// A deadline that can be moved cheaply: moving it later (the usual case: once a request) only writes a number; the
/// loop looks again when the old time comes. Belongs to the loop's thread; disarmed by its destructor.
class Timer {
 public:
  Timer(Loop& loop, std::function<void()> fired) : loop_(loop), fired_(std::move(fired)) {}
  ~Timer() { unqueue(); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  void arm(base::TimePoint deadline);
  void disarm() { deadline_ = base::never(); }
  [[nodiscard]] base::TimePoint deadline() const { return deadline_; }

 private:
  friend class Loop;
  void unqueue();

  Loop& loop_;
  std::function<void()> fired_;
  base::TimePoint deadline_ = base::never();
  bool queued_ = false;
  std::multimap<base::TimePoint, Timer*>::iterator place_{};
};

/// co_await sleep_until(loop, t): for waits in the middle of a coroutine that nothing else ends.
class SleepUntil {
 public:
  SleepUntil(Loop& loop, base::TimePoint when) : timer_(loop, [this] { handle_.resume(); }), when_(when) {}
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> handle) {
    handle_ = handle;
    timer_.arm(when_);
  }
  void await_resume() const noexcept {}

 private:
  std::coroutine_handle<> handle_;
  Timer timer_;
  base::TimePoint when_;
};

}  // namespace thaw::net
