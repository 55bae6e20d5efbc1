#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "store/store.h"

namespace thaw::store {
namespace {

constexpr int kMaxAttempts = 3;            // to commit a group before its rows are given up on
constexpr std::size_t kKeptRows = 16'384;  // capacity a buffer keeps; what a burst needed beyond is given back

void empty(std::vector<UsageRow>& rows) {
  rows.clear();
  if (rows.capacity() <= kKeptRows) return;
  rows.shrink_to_fit();
  rows.reserve(kKeptRows);
}

}  // namespace

/// Two buffers: add() fills `pending`, the thread swaps it for its own empty one and commits that without holding the
/// lock.
struct UsageWriter::Impl {
  Impl(Store& s, base::Duration interval, std::size_t max) : store(s), group_interval(interval), max_pending(max) {
    pending.reserve(kKeptRows);  // not resident before it is used; spares the hot thread the copies of a growing vector
    group.reserve(kKeptRows);
    thread = std::thread([this] { run(); });
  }

  void run() {
    std::unique_lock lock(mutex);
    while (true) {
      work.wait(lock, [this] { return stopping || !pending.empty(); });
      if (pending.empty()) return;
      work.wait_for(lock, group_interval, [this] { return stopping || flush_until > finished; });
      pending.swap(group);
      in_flight = group.size();
      commit(lock);
      finished += in_flight;
      in_flight = 0;
      empty(group);
      done.notify_all();
    }
  }

  /// Called and left with the lock held.
  void commit(std::unique_lock<std::mutex>& lock) {
    for (int attempt = 1; attempt <= kMaxAttempts; ++attempt) {
      lock.unlock();
      const base::Status status = store.append_usage(group);
      lock.lock();
      if (status) {
        committed += group.size();
        return;
      }
      if (attempt < kMaxAttempts) work.wait_for(lock, group_interval, [this] { return stopping; });
    }
    dropped += group.size();
  }

  Store& store;
  const base::Duration group_interval;
  const std::size_t max_pending;

  std::mutex mutex;
  std::condition_variable work;  ///< the thread waits on it
  std::condition_variable done;  ///< flush() waits on it
  std::vector<UsageRow> pending;
  std::vector<UsageRow> group;  ///< the thread's own while in_flight > 0
  std::size_t in_flight = 0;
  std::uint64_t accepted = 0;  ///< rows that ever entered `pending`
  std::uint64_t finished = 0;  ///< of them, committed or given up on
  std::uint64_t flush_until = 0;
  bool stopping = false;
  std::atomic<std::uint64_t> dropped = 0;
  std::atomic<std::uint64_t> committed = 0;
  std::thread thread;
};

UsageWriter::UsageWriter(Store& store, base::Duration group_interval, std::size_t max_pending)
    : impl_(std::make_unique<Impl>(store, group_interval, max_pending)) {}

UsageWriter::~UsageWriter() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
  }
  impl_->work.notify_one();
  impl_->thread.join();
}

void UsageWriter::add(const UsageRow& row) {
  bool first = false;
  {
    const std::lock_guard lock(impl_->mutex);
    if (impl_->pending.size() + impl_->in_flight >= impl_->max_pending) {
      ++impl_->dropped;
      return;
    }
    first = impl_->pending.empty();
    impl_->pending.push_back(row);
    ++impl_->accepted;
  }
  if (first) impl_->work.notify_one();  // later rows find the thread awake already
}

void UsageWriter::flush() {
  std::unique_lock lock(impl_->mutex);
  const std::uint64_t target = impl_->accepted;
  impl_->flush_until = std::max(impl_->flush_until, target);
  impl_->work.notify_one();
  impl_->done.wait(lock, [&] { return impl_->finished >= target; });
}

std::uint64_t UsageWriter::dropped() const {
  return impl_->dropped;
}
std::uint64_t UsageWriter::committed() const {
  return impl_->committed;
}

}  // namespace thaw::store
