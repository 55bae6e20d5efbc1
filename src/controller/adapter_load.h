#pragma once

#include <algorithm>
#include <coroutine>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "net/loop.h"

namespace thaw::controller {

class AdapterWait;

/// An adapter on its way into one replica's engine: ordered once, however many requests wait for it. Shared by the
/// replica and those. Loop thread only.
class AdapterLoad {
 public:
  enum class State { under_way, loaded, failed, replica_lost };

  [[nodiscard]] State state() const { return state_; }
  [[nodiscard]] const std::string& error() const { return error_; }
  /// Wakes all that wait.
  void end(State state, std::string error);

 private:
  friend class AdapterWait;
  State state_ = State::under_way;
  std::string error_;
  std::vector<AdapterWait*> waiting_;
};

/// One request's wait for a load. Lifetime: the request's coroutine's.
class AdapterWait {
 public:
  AdapterWait(net::Loop& loop, std::shared_ptr<AdapterLoad> load)
      : loop_(loop), load_(std::move(load)), timer_(loop, [this] { wake(); }) {
    load_->waiting_.push_back(this);
  }
  AdapterWait(const AdapterWait&) = delete;
  AdapterWait& operator=(const AdapterWait&) = delete;
  ~AdapterWait() { std::erase(load_->waiting_, this); }

  [[nodiscard]] const AdapterLoad& load() const { return *load_; }
  /// co_await until(t): the load has ended, or it is t, or wake() was called.
  auto until(base::TimePoint deadline) { return Awaiter{*this, deadline}; }
  void wake() {
    if (waiter_) loop_.defer(std::exchange(waiter_, nullptr));
  }

 private:
  struct Awaiter {
    AdapterWait& wait;
    base::TimePoint deadline;
    bool await_ready() const { return wait.load_->state() != AdapterLoad::State::under_way; }
    void await_suspend(std::coroutine_handle<> handle) {
      wait.waiter_ = handle;
      wait.timer_.arm(deadline);
    }
    void await_resume() { wait.timer_.disarm(); }
  };

  net::Loop& loop_;
  std::shared_ptr<AdapterLoad> load_;
  std::coroutine_handle<> waiter_;
  net::Timer timer_;
};

inline void AdapterLoad::end(State state, std::string error) {
  if (state_ != State::under_way) return;
  state_ = state;
  error_ = std::move(error);
  for (AdapterWait* const wait : waiting_) wait->wake();
}

}  // namespace thaw::controller
