#include "net/loop.h"

#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <limits>
#include <utility>

namespace thaw::net {

base::Result<std::unique_ptr<Loop>> Loop::create() {
  const int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_fd < 0) return base::errno_error("cannot create an epoll instance", errno);
  const int wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_fd < 0) {
    const int error = errno;
    close(epoll_fd);
    return base::errno_error("cannot create an eventfd", error);
  }
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = nullptr;  // no owner: the wake-up itself
  if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, wake_fd, &event) < 0) {
    const int error = errno;
    close(wake_fd);
    close(epoll_fd);
    return base::errno_error("cannot watch an eventfd", error);
  }
  return std::unique_ptr<Loop>(new Loop(epoll_fd, wake_fd));
}

Loop::Loop(int epoll_fd, int wake_fd)
    : epoll_fd_(epoll_fd),
      wake_fd_(wake_fd),
      now_(clock()),
      scratch_(new char[kScratchBytes]),
      kept_(new char[kKeptBytes]) {}

Loop::~Loop() {
  close(wake_fd_);
  close(epoll_fd_);
}

std::int64_t unix_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

base::TimePoint Loop::clock() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return base::TimePoint(std::chrono::seconds(t.tv_sec) + std::chrono::nanoseconds(t.tv_nsec));
}

void Loop::run() {
  while (!stopping_.load(std::memory_order_acquire)) {
    const int count = epoll_wait(epoll_fd_, events_.data(), kMaxEvents, wait_ms());
    now_ = clock();
    batch_size_ = count > 0 ? static_cast<std::size_t>(count) : 0;
    bool woken = false;
    for (std::size_t i = 0; i < batch_size_; ++i) {
      auto* owner = static_cast<Pollable*>(events_[i].data.ptr);
      const std::uint32_t events = events_[i].events;
      batch_left_ = batch_size_ - i - 1;
      if (owner != nullptr) {
        owner->on_events(events);
        run_deferred();
        if (late_.size() >= kMaxLate) run_late();
      } else if (events != 0) {
        woken = true;
      }
    }
    run_late();
    batch_size_ = 0;
    if (woken) run_posted();
    run_timers();
    run_deferred();
  }
}

void Loop::stop() {
  stopping_.store(true, std::memory_order_release);
  wake();
}

void Loop::wake() const {
  const std::uint64_t one = 1;
  // A full counter (EAGAIN) means that a wake-up is pending already.
  [[maybe_unused]] const auto written = write(wake_fd_, &one, sizeof one);
}

void Loop::post(std::function<void()> work) {
  bool first = false;
  {
    const std::lock_guard lock(posted_mutex_);
    first = posted_.empty();
    posted_.push_back(std::move(work));
  }
  if (first) wake();
}

void Loop::run_posted() {
  std::uint64_t count = 0;
  [[maybe_unused]] const auto got = read(wake_fd_, &count, sizeof count);
  std::vector<std::function<void()>> batch;
  {
    const std::lock_guard lock(posted_mutex_);
    batch.swap(posted_);
  }
  for (auto& work : batch) {
    work();
    run_deferred();
  }
}

void Loop::run_deferred() {
  // A resumed coroutine may defer further ones; they run in this turn too.
  for (std::size_t i = 0; i < deferred_.size(); ++i) deferred_[i].resume();
  deferred_.clear();
}

void Loop::run_late() {
  // batch_left_ is 0: who is resumed here waits no second time.
  for (std::size_t i = 0; i < late_.size(); ++i) {
    late_[i].resume();
    run_deferred();
  }
  late_.clear();
  kept_bytes_ = 0;
}

std::optional<std::string_view> Loop::keep(std::string_view data) {
  if (data.size() > kKeptBytes - kept_bytes_) return std::nullopt;
  char* const copy = kept_.get() + kept_bytes_;
  std::memcpy(copy, data.data(), data.size());
  if (batch_left_ > 0) kept_bytes_ += data.size();  // else nobody waits, and the next one may have the same place
  return std::string_view(copy, data.size());
}

void Loop::run_timers() {
  while (!timers_.empty() && timers_.begin()->first <= now_) {
    Timer* timer = timers_.begin()->second;
    timer->unqueue();
    if (timer->deadline_ == base::never()) continue;
    if (timer->deadline_ > now_) {
      timer->arm(timer->deadline_);
      continue;
    }
    timer->deadline_ = base::never();
    timer->fired_();  // may destroy the timer
    run_deferred();
  }
}

int Loop::wait_ms() const {
  if (timers_.empty()) return -1;
  const auto left = timers_.begin()->first - clock();
  if (left <= base::Duration::zero()) return 0;
  // Rounded up, or the loop would spin through the last millisecond.
  const auto ms = std::chrono::ceil<base::Millis>(left).count();
  return static_cast<int>(std::min<std::int64_t>(ms, std::numeric_limits<int>::max()));
}

base::Status Loop::watch(int fd, std::uint32_t events, Pollable* owner) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = owner;
  if (epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) < 0)
    return base::errno_error("cannot watch a file descriptor", errno);
  return {};
}

void Loop::change(int fd, std::uint32_t events, Pollable* owner) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = owner;
  epoll_ctl(epoll_fd_, EPOLL_CTL_MOD, fd, &event);
}

void Loop::unwatch(int fd, const Pollable* owner) {
  epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, fd, nullptr);
  for (std::size_t i = 0; i < batch_size_; ++i) {
    if (events_[i].data.ptr == owner) {
      events_[i].data.ptr = nullptr;
      events_[i].events = 0;
    }
  }
}

void Timer::arm(base::TimePoint deadline) {
  deadline_ = deadline;
  if (deadline == base::never()) return;
  if (queued_) {
    if (place_->first <= deadline) return;  // the loop will look again then
    unqueue();
  }
  place_ = loop_.timers_.emplace(deadline, this);
  queued_ = true;
}

void Timer::unqueue() {
  if (!queued_) return;
  loop_.timers_.erase(place_);
  queued_ = false;
}

}  // namespace thaw::net
