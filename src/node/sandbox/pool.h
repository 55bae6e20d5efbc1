#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
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
  /// Starts filling. `size`: sandboxes kept ready, 0 to 64. `maker` must outlive the pool.
  SandboxPool(SandboxMaker& maker, std::size_t size);
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
  [[nodiscard]] bool may_make(base::TimePoint at) const;

  SandboxMaker& maker_;
  const std::size_t size_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::unique_ptr<Sandbox>> ready_;
  std::size_t starts_ = 0;
  base::TimePoint not_before_{};
  bool making_ = false;
  bool closing_ = false;
  std::thread filler_;
};

}  // namespace thaw::node
