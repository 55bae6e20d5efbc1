#include "copy_engine.h"

#include <sys/prctl.h>

#include <algorithm>
#include <cstring>
#include <thread>

namespace thaw::emulator {

CopyEngine::Ticket CopyEngine::submit(const Copy& copy) {
  const std::lock_guard lock(mutex_);
  if (!started_) std::thread([this] { run(); }).detach();  // for as long as the process lives, like the engine itself
  started_ = true;
  queue_.push_back({copy, Clock::now()});
  submitted_changed_.notify_one();
  return ++submitted_;
}

bool CopyEngine::done(Ticket ticket) {
  const std::lock_guard lock(mutex_);
  return done_ >= ticket;
}

void CopyEngine::wait(Ticket ticket) {
  std::unique_lock lock(mutex_);
  done_changed_.wait(lock, [&] { return done_ >= ticket; });
}

bool CopyEngine::wait_idle(Gate::Deadline deadline) {
  std::unique_lock lock(mutex_);
  const auto idle = [&] { return done_ == submitted_; };
  if (deadline) return done_changed_.wait_until(lock, *deadline, idle);
  done_changed_.wait(lock, idle);
  return true;
}

void CopyEngine::carry_out(const Submitted& submitted) {
  const Copy& copy = submitted.copy;
  // A bus that falls behind this clock (the thread was not woken in time) catches up with what is queued, as if it had
  // not.
  free_at_ = std::max(free_at_, submitted.at);
  if (copy.error != 0) {
    int none = 0;
    error_.compare_exchange_strong(none, copy.error);
  }
  if (error_ != 0) return;  // nothing that was submitted after a failure is carried out
  for (std::size_t row = 0; row < copy.height; ++row)
    std::memcpy(copy.to + row * copy.to_pitch_bytes, copy.from + row * copy.from_pitch_bytes, copy.width_bytes);
  if (copy.mb_s == 0) return;
  free_at_ += std::chrono::nanoseconds(copy.width_bytes * copy.height * 1000 / copy.mb_s);
  std::this_thread::sleep_until(free_at_);
}

void CopyEngine::run() {
  ::prctl(PR_SET_TIMERSLACK, 1);
  std::unique_lock lock(mutex_);
  for (;;) {
    submitted_changed_.wait(lock, [&] { return !queue_.empty(); });
    const Submitted submitted = queue_.front();
    queue_.pop_front();
    lock.unlock();
    carry_out(submitted);
    lock.lock();
    ++done_;
    done_changed_.notify_all();
  }
}

}  // namespace thaw::emulator
