#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>

#include "gate.h"

namespace thaw::emulator {

/// What moves bytes from the host to one device: a thread that copies them for real, one copy after the other in the
/// order of submission, and lets each last as long as the bus would need. Submissions of one stream are thus in order,
/// and all streams of a device share its bus.
class CopyEngine {
 public:
  using Clock = std::chrono::steady_clock;
  using Ticket = std::uint64_t;  ///< numbers the copies from 1

  struct Copy {
    std::byte* to = nullptr;
    const std::byte* from = nullptr;
    std::size_t width_bytes = 0;  ///< of a row
    std::size_t height = 1;
    std::size_t to_pitch_bytes = 0;
    std::size_t from_pitch_bytes = 0;
    std::uint64_t mb_s = 0;  ///< 0: no limit
    int error = 0;           ///< it fails with this code, and copies nothing
  };

  CopyEngine() = default;
  CopyEngine(const CopyEngine&) = delete;
  CopyEngine& operator=(const CopyEngine&) = delete;

  Ticket submit(const Copy& copy);
  [[nodiscard]] bool done(Ticket ticket);
  void wait(Ticket ticket);
  /// Until nothing is left to do; false at the deadline.
  bool wait_idle(Gate::Deadline deadline = std::nullopt);
  /// The code of the first copy that failed; 0 without one. It stays, as errors of a context do.
  [[nodiscard]] int error() const { return error_; }
  void forget_error() { error_ = 0; }

 private:
  struct Submitted {
    Copy copy;
    Clock::time_point at;
  };
  void run();
  void carry_out(const Submitted& submitted);

  std::mutex mutex_;
  std::condition_variable submitted_changed_;
  std::condition_variable done_changed_;
  std::deque<Submitted> queue_;
  Ticket submitted_ = 0;
  Ticket done_ = 0;
  bool started_ = false;
  std::atomic<int> error_ = 0;
  Clock::time_point free_at_;  ///< when the bus has carried all that was begun
};

}  // namespace thaw::emulator
