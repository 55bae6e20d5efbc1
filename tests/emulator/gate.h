#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>

namespace thaw::emulator {

/// What every call of the driver passes through. Closed while the process is locked for a checkpoint: new calls wait,
/// and whoever closes it waits until those that are inside have left.
class Gate {
 public:
  using Deadline = std::optional<std::chrono::steady_clock::time_point>;

  /// Inside, for as long as the object lives.
  class Pass {
   public:
    explicit Pass(Gate& gate) : gate_(gate) {
      std::unique_lock lock(gate_.mutex_);
      gate_.changed_.wait(lock, [&] { return !gate_.closed_; });
      ++gate_.inside_;
    }
    ~Pass() {
      const std::lock_guard lock(gate_.mutex_);
      --gate_.inside_;
      gate_.changed_.notify_all();
    }
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;

   private:
    Gate& gate_;
  };

  /// False, and open as before, when somebody is still inside at the deadline.
  bool close(Deadline deadline) {
    std::unique_lock lock(mutex_);
    closed_ = true;
    const auto empty = [&] { return inside_ == 0; };
    if (!deadline) {
      changed_.wait(lock, empty);
    } else if (!changed_.wait_until(lock, *deadline, empty)) {
      closed_ = false;
      changed_.notify_all();
      return false;
    }
    return true;
  }

  void open() {
    const std::lock_guard lock(mutex_);
    closed_ = false;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool closed_ = false;
  int inside_ = 0;
};

}  // namespace thaw::emulator
