#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "base/time.h"
#include "node/sandbox/sandbox.h"

/// The problem: making a sandbox takes longer than starting a small engine, so a few are made before anybody asks, in moments when
/// nobody is waiting: making one takes CPU from a cold start that runs beside it.
namespace thaw::node {

/// Threads: one of its own makes sandboxes; take(), begin_start() and end_start() may be called from any thread.
class SandboxPool {
 public:
  /// Starts filling. `size`: sandboxes kept ready, 0 to 64. `maker` must outlive the pool. `keep`: sandboxes are kept
  /// only this long after somebody asked for one, and none before anybody did; zero: always.
  SandboxPool(SandboxMaker& maker, std::size_t size, base::Duration keep = base::Duration::zero());
  /// The same with what makes one; called on the pool's thread.
  using Make = std::function<base::Result<std::unique_ptr<Sandbox>>()>;
  SandboxPool(Make make, std::size_t size, base::Duration keep);
  /// Destroys what was not taken.
  ~SandboxPool();
  SandboxPool(const SandboxPool&) = delete;
  SandboxPool& operator=(const SandboxPool&) = delete;

  /// An empty living sandbox, or null when none is there. Waits for one that is being made right now: that is sooner than a new one.
  std::unique_ptr<Sandbox> take();

  /// No sandbox is begun between the first begin_start() and a little after the last end_start().
  void begin_start();
  void end_start();

  [[nodiscard]] std::size_t ready() const;

 private:
  void fill();
  [[nodiscard]] bool lacks(base::TimePoint at) const;
  [[nodiscard]] bool may_make(base::TimePoint at) const;
  void let_go(std::unique_lock<std::mutex>& lock);

  const Make make_;
  const std::size_t size_;
  const base::Duration keep_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::unique_ptr<Sandbox>> ready_;
  std::size_t starts_ = 0;
  base::TimePoint not_before_{};
  base::TimePoint wanted_until_{};
  bool making_ = false;
  bool closing_ = false;
  std::thread filler_;
};

}  // namespace thaw::node
