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

SandboxPool::SandboxPool(SandboxMaker& maker, std::size_t size, base::Duration keep)
    : SandboxPool([&maker] { return maker.make_empty(); }, size, keep) {}

SandboxPool::SandboxPool(Make make, std::size_t size, base::Duration keep)
    : make_(std::move(make)), size_(size), keep_(keep) {
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
  wanted_until_ = now() + keep_;
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

bool SandboxPool::lacks(base::TimePoint at) const {
  const bool wanted = keep_ == base::Duration::zero() || at < wanted_until_;
  return wanted && ready_.size() < size_ && starts_ == 0;
}

bool SandboxPool::may_make(base::TimePoint at) const {
  return lacks(at) && at >= not_before_;
}

/// Of those that nobody has asked for in a long time.
void SandboxPool::let_go(std::unique_lock<std::mutex>& lock) {
  std::deque<std::unique_ptr<Sandbox>> unwanted;
  unwanted.swap(ready_);
  lock.unlock();
  unwanted.clear();
  lock.lock();
}

void SandboxPool::fill() {
  base::Duration retry = kFirstRetry;
  std::unique_lock lock(mutex_);
  while (!closing_) {
    const bool passes = keep_ > base::Duration::zero() && !ready_.empty();
    if (passes && now() >= wanted_until_) {
      let_go(lock);
      continue;
    }
    if (!may_make(now())) {
      if (lacks(now()))
        changed_.wait_until(lock, steady(not_before_));
      else if (passes)
        changed_.wait_until(lock, steady(wanted_until_));
      else
        changed_.wait(lock);
      continue;
    }
    making_ = true;
    lock.unlock();
    auto made = make_();
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
