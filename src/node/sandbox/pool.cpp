#include "node/sandbox/pool.h"

#include <algorithm>

#include <spdlog/spdlog.h>

#include "node/sandbox/clock.h"

namespace thaw::node {
namespace {

// After a start the first request runs; its tokens come before the next sandbox. But when models take turns, an empty pool costs the next start
// more than this one's first tokens can lose.
constexpr auto kQuietAfterStart = base::Millis(200);
constexpr auto kQuietWhenEmpty = base::Millis(20);
constexpr auto kFirstRetry = base::Seconds(1);
constexpr auto kMaxRetry = base::Seconds(60);

std::chrono::steady_clock::time_point steady(base::TimePoint when) {
  return std::chrono::steady_clock::time_point(duration_cast<std::chrono::steady_clock::duration>(when.time_since_epoch()));
}

}  // namespace

SandboxPool::SandboxPool(SandboxMaker& maker, std::size_t size) : maker_(maker), size_(size) {
  if (size_ > 0) filler_ = std::thread([this] { fill(); });
}

SandboxPool::~SandboxPool() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_all();
  if (filler_.joinable()) filler_.join();
}

std::unique_ptr<Sandbox> SandboxPool::take() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return !ready_.empty() || !making_ || closing_; });
    if (ready_.empty()) return nullptr;
    std::unique_ptr<Sandbox> sandbox = std::move(ready_.front());
    ready_.pop_front();
    changed_.notify_all();
    if (!sandbox->ended()) return sandbox;
    lock.unlock();
    spdlog::warn("sandbox {} died while it waited for an engine; trying another", sandbox->name());
    sandbox.reset();
    lock.lock();
  }
}

void SandboxPool::begin_start() {
  const std::lock_guard lock(mutex_);
  ++starts_;
}

void SandboxPool::end_start() {
  const std::lock_guard lock(mutex_);
  --starts_;
  not_before_ = now() + (ready_.empty() ? kQuietWhenEmpty : kQuietAfterStart);
  changed_.notify_all();
}

std::size_t SandboxPool::ready() const {
  const std::lock_guard lock(mutex_);
  return ready_.size();
}

bool SandboxPool::may_make(base::TimePoint at) const { return ready_.size() < size_ && starts_ == 0 && at >= not_before_; }

void SandboxPool::fill() {
  base::Duration retry = kFirstRetry;
  std::unique_lock lock(mutex_);
  while (!closing_) {
    if (!may_make(now())) {
      const bool only_early = ready_.size() < size_ && starts_ == 0;
      if (only_early)
        changed_.wait_until(lock, steady(not_before_));
      else
        changed_.wait(lock);
      continue;
    }
    making_ = true;
    lock.unlock();
    auto made = maker_.make_empty();
    lock.lock();
    making_ = false;
    if (made.ok()) {
      ready_.push_back(std::move(made).value());
      retry = kFirstRetry;
    } else {
      spdlog::warn("cannot make a sandbox ahead, starts will be slower: {}", made.error().message);
      not_before_ = now() + retry;
      retry = std::min<base::Duration>(retry * 2, kMaxRetry);
    }
    changed_.notify_all();
  }
  ready_.clear();
}

}  // namespace thaw::node
