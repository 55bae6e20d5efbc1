#include "node/watcher.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <vector>

#include "node/sandbox/clock.h"
#include "node/sandbox/pipes.h"

namespace thaw::node {
namespace {

constexpr int kMaxEvents = 64;
constexpr int kMaxWait_ms = 60'000;
constexpr auto kRepeatOverdue = base::Seconds(1);
constexpr std::uint64_t kWakeTag = 0;  // instance ids begin at 1

// What a descriptor in the epoll set belongs to: the instance, and which of its three.
constexpr std::uint64_t kTags = 3;
constexpr std::uint64_t process_tag(base::InstanceId id) { return id.value() * kTags; }
constexpr std::uint64_t output_tag(base::InstanceId id) { return id.value() * kTags + 1; }
constexpr std::uint64_t engine_tag(base::InstanceId id) { return id.value() * kTags + 2; }

}  // namespace

base::Result<std::unique_ptr<Watcher>> Watcher::start(Callbacks callbacks) {
  Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  Fd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!epoll || !wake) return base::errno_error("cannot watch processes", errno);
  std::unique_ptr<Watcher> watcher(new Watcher(std::move(callbacks), std::move(epoll), std::move(wake)));
  THAW_RETURN_IF_ERROR(watcher->add(watcher->wake_.get(), kWakeTag));
  watcher->thread_ = std::thread([raw = watcher.get()] { raw->loop(); });
  return watcher;
}

Watcher::Watcher(Callbacks callbacks, Fd epoll, Fd wake) : callbacks_(std::move(callbacks)), epoll_(std::move(epoll)), wake_(std::move(wake)) {}

Watcher::~Watcher() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  wake();
  if (thread_.joinable()) thread_.join();
}

base::Status Watcher::watch(base::InstanceId instance, int pidfd, Fd output, Output on_output) {
  auto entry = std::make_shared<Entry>();
  entry->pidfd = Fd(::fcntl(pidfd, F_DUPFD_CLOEXEC, 0));
  if (!entry->pidfd) return base::errno_error("cannot watch a process", errno);
  entry->output = std::move(output);
  entry->on_output = std::move(on_output);
  {
    const std::lock_guard lock(mutex_);
    entries_[instance] = entry;
  }
  auto added = add(entry->output.get(), output_tag(instance));
  if (added.ok()) added = add(entry->pidfd.get(), process_tag(instance));
  if (added.ok()) return added;
  const std::lock_guard lock(mutex_);
  entries_.erase(instance);
  return added;
}

base::Status Watcher::watch_engine(base::InstanceId instance, pid_t engine) {
  THAW_ASSIGN_OR_RETURN(Fd pidfd, open_pidfd(engine));
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(instance);
  if (found == entries_.end() || found->second->engine) return {};
  found->second->engine = std::move(pidfd);
  return add(found->second->engine.get(), engine_tag(instance));
}

void Watcher::kill_at(base::InstanceId instance, base::TimePoint when) {
  {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(instance);
    if (found == entries_.end()) return;
    found->second->kill_at = when;
  }
  wake();
}

base::Status Watcher::add(int fd, std::uint64_t tag) const {
  struct epoll_event event {};
  event.events = EPOLLIN;
  event.data.u64 = tag;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return base::errno_error("cannot watch a process", errno);
  return {};
}

void Watcher::wake() const {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof one);  // full means that a wake-up is pending already
}

void Watcher::loop() {
  std::array<struct epoll_event, kMaxEvents> events{};
  for (;;) {
    {
      const std::lock_guard lock(mutex_);
      if (closing_) return;
    }
    const int ready = ::epoll_wait(epoll_.get(), events.data(), kMaxEvents, timeout_ms());
    for (int i = 0; i < ready; ++i) handle(events[static_cast<std::size_t>(i)].data.u64);
    report_overdue();
  }
}

void Watcher::handle(std::uint64_t tag) {
  if (tag == kWakeTag) {
    std::uint64_t count = 0;
    [[maybe_unused]] const ssize_t got = ::read(wake_.get(), &count, sizeof count);
    return;
  }
  const base::InstanceId instance(tag / kTags);
  std::shared_ptr<Entry> entry;
  {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(instance);
    if (found == entries_.end()) return;  // ended earlier in the same batch of events
    entry = found->second;
  }
  if (tag == engine_tag(instance)) {
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, entry->engine.get(), nullptr);
    callbacks_.engine_ended(instance);
    return;
  }
  const std::string text = read_available(entry->output.get());
  if (!text.empty()) entry->on_output(text);
  if (tag == output_tag(instance)) {
    // Nothing to read means that every writer is gone; the descriptor would poll readable for ever.
    if (text.empty()) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, entry->output.get(), nullptr);
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    entries_.erase(instance);
  }
  auto exit = peek_exit(entry->pidfd.get());
  callbacks_.ended(instance, exit.ok() ? *exit : Exit{});
}

void Watcher::report_overdue() {
  std::vector<base::InstanceId> overdue;
  const base::TimePoint at = now();
  {
    const std::lock_guard lock(mutex_);
    for (auto& [instance, entry] : entries_) {
      if (!entry->kill_at || *entry->kill_at > at) continue;
      entry->kill_at = at + kRepeatOverdue;
      overdue.push_back(instance);
    }
  }
  for (const base::InstanceId instance : overdue) callbacks_.overdue(instance);
}

int Watcher::timeout_ms() const {
  const std::lock_guard lock(mutex_);
  base::TimePoint first = base::never();
  for (const auto& [instance, entry] : entries_)
    if (entry->kill_at) first = std::min(first, *entry->kill_at);
  return first == base::never() ? -1 : poll_ms(first, kMaxWait_ms);
}

}  // namespace thaw::node
