#pragma once

#include <coroutine>
#include <memory>
#include <variant>

#include "base/ids.h"
#include "base/time.h"
#include "control/scheduler.h"
#include "controller/replica.h"
#include "net/loop.h"

namespace thaw::controller {

/// The replica a request may use now.
struct Grant {
  std::shared_ptr<Replica> replica;
  bool cold = false;           ///< it waited for a start
  base::Duration queued{};     ///< how long it waited in this round
};

/// A request's place in the queue: resolved by the controller with a Grant or a refusal, waited on by the request's coroutine.
/// Lifetime: the request's; it must be ended (Controller::ended) before it is destroyed, unless it was refused. Loop thread only.
class Ticket {
 public:
  Ticket(net::Loop& loop, base::RequestId id) : loop_(loop), id_(id), timer_(loop, [this] { wake(Wake::timed_out); }) {}
  Ticket(const Ticket&) = delete;
  Ticket& operator=(const Ticket&) = delete;

  [[nodiscard]] base::RequestId id() const { return id_; }
  [[nodiscard]] bool resolved() const { return !std::holds_alternative<std::monostate>(outcome_); }
  [[nodiscard]] const Grant* grant() const { return std::get_if<Grant>(&outcome_); }
  [[nodiscard]] const control::Refuse* refusal() const { return std::get_if<control::Refuse>(&outcome_); }
  /// Seconds of a whole device that its answer has had (control::Scheduler::device_seconds); known once it has ended.
  [[nodiscard]] double device_seconds() const { return device_seconds_; }
  /// Wakes the waiter because the client has gone.
  void cancel() { wake(Wake::cancelled); }

  enum class Wake { resolved, timed_out, cancelled };
  /// co_await wait(until): resolved, or timed_out at `until`, or cancelled.
  auto wait(base::TimePoint until) { return Awaiter{*this, until}; }

 private:
  friend class Controller;
  struct Awaiter {
    Ticket& ticket;
    base::TimePoint until;
    bool await_ready() const { return ticket.resolved(); }
    void await_suspend(std::coroutine_handle<> handle) {
      ticket.waiter_ = handle;
      ticket.timer_.arm(until);
    }
    Wake await_resume() {
      ticket.timer_.disarm();
      return ticket.resolved() ? Wake::resolved : ticket.woken_by_;
    }
  };

  void resolve(std::variant<std::monostate, Grant, control::Refuse> outcome) {
    outcome_ = std::move(outcome);
    wake(Wake::resolved);
  }
  void wake(Wake why) {
    if (!waiter_) return;
    woken_by_ = why;
    loop_.defer(std::exchange(waiter_, nullptr));
  }

  net::Loop& loop_;
  base::RequestId id_;
  std::variant<std::monostate, Grant, control::Refuse> outcome_;
  std::coroutine_handle<> waiter_;
  Wake woken_by_ = Wake::resolved;
  double device_seconds_ = 0;
  bool answering_ = false;  ///< a byte went out: no further outcome comes
  net::Timer timer_;
};

}  // namespace thaw::controller
