#include "node/weights/pipeline/host_copier.h"

#include <algorithm>
#include <cstring>

namespace thaw::node::pipeline {
namespace {

constexpr std::uint64_t kJobBytes = 512U << 10;  // so that the threads share a chunk

void carry_out(const Copy& copy) {
  auto* const to = reinterpret_cast<std::byte*>(copy.to);  // NOLINT(performance-no-int-to-ptr): the caller's address
  for (std::uint64_t row = 0; row < copy.rows; ++row)
    std::memcpy(to + row * copy.to_stride, copy.from + row * copy.from_stride, copy.row_bytes);
}

}  // namespace

unsigned HostCopier::default_threads() {
  return std::clamp(std::thread::hardware_concurrency() / 2, 1U, 4U);
}

HostCopier::HostCopier(unsigned threads, unsigned slots) : pending_(slots) {
  for (unsigned i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
}

HostCopier::~HostCopier() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  jobs_changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

base::Status HostCopier::begin(unsigned slot, std::span<const Copy> copies) {
  {
    const std::lock_guard lock(mutex_);
    const auto add = [&](const Copy& copy) {
      jobs_.push_back({copy, slot});
      ++pending_[slot];
      ++unfinished_;
    };
    for (Copy copy : copies) {
      for (; copy.rows == 1 && copy.row_bytes > kJobBytes;
           copy.from += kJobBytes, copy.to += kJobBytes, copy.row_bytes -= kJobBytes) {
        Copy part = copy;
        part.row_bytes = kJobBytes;
        add(part);
      }
      add(copy);
    }
  }
  jobs_changed_.notify_all();
  return {};
}

base::Result<bool> HostCopier::done(unsigned slot) {
  const std::lock_guard lock(mutex_);
  return pending_[slot] == 0;
}

base::Status HostCopier::settle() {
  std::unique_lock lock(mutex_);
  for (const Job& job : jobs_) --pending_[job.slot];
  unfinished_ -= jobs_.size();
  jobs_.clear();
  idle_changed_.wait(lock, [this] { return unfinished_ == 0; });
  return {};
}

void HostCopier::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    jobs_changed_.wait(lock, [this] { return ending_ || !jobs_.empty(); });
    if (ending_) return;
    const Job job = jobs_.front();
    jobs_.pop_front();
    lock.unlock();
    carry_out(job.copy);
    lock.lock();
    --pending_[job.slot];
    if (--unfinished_ == 0) idle_changed_.notify_all();
  }
}

}  // namespace thaw::node::pipeline
