#include "store/usage_journal.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "store/usage_journal_file.h"

namespace thaw::store {
namespace {

constexpr std::size_t kMaxGroup = 8192;  // rows of one transaction
constexpr auto kTidyInterval = std::chrono::hours(1);
using Clock = std::chrono::steady_clock;

}  // namespace

/// The loop owns free and open slots, the thread closed ones; they hand each other numbers of slots under the lock.
struct UsageJournal::Impl {
  Impl(Options given, UsageSink& to, UsageJournalFile opened)
      : options(std::move(given)), sink(to), file(std::move(opened)), slots(file.slots()) {}

  /// Before the thread starts: what the last process left.
  void recover() {
    const std::int64_t now = options.unix_ms();
    for (Slot number = static_cast<Slot>(slots.size()); number-- > 0;) {
      UsageSlot& slot = slots[number];
      switch (state_of(slot)) {
        case SlotState::free: free.push_back(number); continue;
        case SlotState::damaged:
          ++lost;
          free_slot(slot);
          free.push_back(number);
          continue;
        case SlotState::open: {
          UsageClosing closing;
          closing.ended_unix_ms = now;
          closing.outcome = UsageOutcome::interrupted;
          close_slot(slot, closing);
          ++interrupted;
          break;
        }
        case SlotState::closed: break;
      }
      closed.push_back(number);
    }
    accepted = closed.size();
    if (lost > 0) warn(fmt::format("{} requests in {} cannot be read any more; their usage is lost", lost.load(), options.path));
  }

  void run() {
    std::unique_lock lock(mutex);
    auto tidy_at = Clock::now();
    while (true) {
      if (Clock::now() >= tidy_at) {
        tidy(lock);
        tidy_at = Clock::now() + kTidyInterval;
      }
      if (closed.empty()) {
        if (stopping) return;
        work.wait_until(lock, tidy_at, [this] { return stopping || !closed.empty(); });
        if (closed.empty()) continue;
      }
      work.wait_for(lock, options.group_interval, [this] { return stopping || flush_until > finished || closed.size() >= kMaxGroup; });
      if (move_group(lock)) continue;
      if (stopping) return;  // it stays in the file
      work.wait_for(lock, options.retry_interval, [this] { return stopping || flush_until > finished; });
    }
  }

  void tidy(std::unique_lock<std::mutex>& lock) {
    lock.unlock();
    if (const base::Status tidied = sink.tidy(options.unix_ms()); !tidied) warn("old usage cannot be removed: " + tidied.error().message);
    lock.lock();
  }

  /// Called and left with the lock held. False: the sink did not take it; nothing has changed.
  bool move_group(std::unique_lock<std::mutex>& lock) {
    const std::size_t count = std::min(closed.size(), kMaxGroup);
    group.assign(closed.begin(), closed.begin() + static_cast<std::ptrdiff_t>(count));
    lock.unlock();
    rows.clear();
    for (const Slot number : group) rows.push_back(row_of(slots[number]));
    std::sort(rows.begin(), rows.end(), [](const UsageRow& a, const UsageRow& b) { return a.seq < b.seq; });  // cheapest for a table by seq
    const base::Status status = sink.append(rows);
    if (status)
      for (const Slot number : group) free_slot(slots[number]);
    tell(status);
    lock.lock();
    last_status = status;
    if (status) {
      closed.erase(closed.begin(), closed.begin() + static_cast<std::ptrdiff_t>(count));
      freed.insert(freed.end(), group.begin(), group.end());
      freed_count.store(freed.size(), std::memory_order_relaxed);
      finished += count;
      moved += count;
    } else {
      ++failures;
      flush_until = finished;  // whoever waits is told, and asks again
    }
    done.notify_all();
    return status.ok();
  }

  /// Once when it begins to fail, once when it is well again, and whenever rows were lost meanwhile.
  void tell(const base::Status& status) {
    const std::uint64_t lost_now = lost;
    if (!status && (!failing || lost_now > told_lost))
      warn(fmt::format("usage cannot be stored now and waits in {}; requests lost so far because that is full: {}: {}", options.path, lost_now,
                       status.error().message));
    if (status && failing) warn(fmt::format("usage is stored again; requests lost for good: {}", lost_now));
    failing = !status;
    told_lost = lost_now;
  }

  void warn(const std::string& text) const {
    if (options.warn) options.warn(text);
  }

  const Options options;
  UsageSink& sink;
  UsageJournalFile file;
  const std::span<UsageSlot> slots;
  std::vector<Slot> free;  ///< the loop's; the last one is taken first, so that few pages are ever touched

  std::mutex mutex;
  std::condition_variable work;  ///< the thread waits on it
  std::condition_variable done;  ///< flush() waits on it
  std::vector<Slot> closed;      ///< in the order in which they were closed
  std::vector<Slot> freed;       ///< on their way back to the loop
  std::uint64_t accepted = 0;    ///< slots that ever entered `closed`
  std::uint64_t finished = 0;    ///< of them, moved
  std::uint64_t failures = 0;    ///< of the sink
  std::uint64_t flush_until = 0;
  base::Status last_status;
  bool stopping = false;

  std::vector<Slot> group;  ///< the thread's own
  std::vector<UsageRow> rows;
  bool failing = false;
  std::uint64_t told_lost = 0;

  std::atomic<std::size_t> freed_count = 0;
  std::atomic<std::uint64_t> lost = 0, moved = 0, interrupted = 0;
  std::thread thread;
};

base::Result<std::unique_ptr<UsageJournal>> UsageJournal::open(Options options, UsageSink& sink) {
  std::string set_aside;
  THAW_ASSIGN_OR_RETURN(UsageJournalFile file, UsageJournalFile::open(options.path, options.slots, set_aside));
  auto impl = std::make_unique<Impl>(std::move(options), sink, std::move(file));
  if (!set_aside.empty()) impl->warn("what was no usage journal any more was moved to " + set_aside + "; a new one is begun");
  impl->recover();
  return std::unique_ptr<UsageJournal>(new UsageJournal(std::move(impl)));
}

UsageJournal::UsageJournal(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {
  impl_->thread = std::thread([impl = impl_.get()] { impl->run(); });
}

UsageJournal::~UsageJournal() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
  }
  impl_->work.notify_one();
  impl_->thread.join();
}

UsageJournal::Slot UsageJournal::begin(const UsageOpening& opening) {
  if (impl_->freed_count.load(std::memory_order_relaxed) > 0) {
    const std::lock_guard lock(impl_->mutex);
    impl_->free.insert(impl_->free.end(), impl_->freed.rbegin(), impl_->freed.rend());
    impl_->freed.clear();
    impl_->freed_count.store(0, std::memory_order_relaxed);
  }
  if (impl_->free.empty()) {
    ++impl_->lost;
    return kNone;
  }
  const Slot slot = impl_->free.back();
  impl_->free.pop_back();
  open_slot(impl_->slots[slot], opening);
  return slot;
}

void UsageJournal::dispatched(Slot slot) {
  if (slot != kNone) mark_dispatched(impl_->slots[slot]);
}

void UsageJournal::close(Slot slot, const UsageClosing& closing) {
  if (slot == kNone) return;
  close_slot(impl_->slots[slot], closing);
  bool first = false;
  {
    const std::lock_guard lock(impl_->mutex);
    first = impl_->closed.empty();
    impl_->closed.push_back(slot);
    ++impl_->accepted;
  }
  if (first) impl_->work.notify_one();  // later ones find the thread awake already
}

base::Status UsageJournal::flush() {
  std::unique_lock lock(impl_->mutex);
  const std::uint64_t target = impl_->accepted;
  const std::uint64_t failures_before = impl_->failures;
  impl_->flush_until = std::max(impl_->flush_until, target);
  impl_->work.notify_one();
  impl_->done.wait(lock, [&] { return impl_->finished >= target || impl_->failures > failures_before; });
  return impl_->finished >= target ? base::Status{} : impl_->last_status;
}

std::uint64_t UsageJournal::lost() const { return impl_->lost; }
std::uint64_t UsageJournal::moved() const { return impl_->moved; }
std::uint64_t UsageJournal::interrupted() const { return impl_->interrupted; }

}  // namespace thaw::store
