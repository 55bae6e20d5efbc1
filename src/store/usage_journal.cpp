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

#include "store/quiet_thread.h"
#include "store/spsc_ring.h"
#include "store/usage_journal_file.h"

namespace thaw::store {
namespace {

constexpr std::size_t kMaxGroup = 8192;  // rows of one transaction
constexpr auto kTidyInterval = std::chrono::hours(1);
using Clock = std::chrono::steady_clock;

}  // namespace

/// The loop owns free and open slots, the thread closed ones; they hand each other numbers of slots through rings. The
/// lock is for who waits: the thread when there is nothing to do, and flush().
struct UsageJournal::Impl {
  Impl(Options given, UsageSink& to, UsageJournalFile opened)
      : options(std::move(given)),
        sink(to),
        file(std::move(opened)),
        slots(file.slots()),
        closed(slots.size()),
        freed(slots.size()) {}

  /// Before the thread starts: what the last process left.
  void recover() {
    const std::int64_t now = options.unix_ms();
    std::vector<Slot> ended;
    for (Slot number = static_cast<Slot>(slots.size()); number-- > 0;) {
      UsageSlot& slot = slots[number];
      switch (state_of(slot)) {
        case SlotState::free:
          free.push_back(number);
          continue;
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
        case SlotState::closed:
          break;
      }
      ended.push_back(number);
    }
    std::sort(ended.begin(), ended.end(), [this](Slot a, Slot b) { return slots[a].open.seq < slots[b].open.seq; });
    for (const Slot number : ended) closed.put(number);
    if (lost > 0)
      warn(fmt::format("{} requests in {} cannot be read any more; their usage is lost", lost.load(), options.path));
  }

  void run() {
    priority.is_this_one();
    std::unique_lock lock(mutex);
    auto tidy_at = Clock::now();
    while (true) {
      if (Clock::now() >= tidy_at) {
        tidy(lock);
        tidy_at = Clock::now() + kTidyInterval;
      }
      if (group.empty() && closed.empty()) {
        if (stopping) return;
        wait_for_work(lock, tidy_at);
        if (closed.empty()) continue;
      }
      priority.quiet();
      work.wait_for(lock, options.group_interval, [this] { return in_haste() || closed.size() >= kMaxGroup; });
      if (in_haste()) priority.hurry();
      if (move_group(lock)) continue;
      if (stopping) return;  // it stays in the file
      work.wait_for(lock, options.retry_interval, [this] { return in_haste(); });
    }
  }

  [[nodiscard]] bool in_haste() const { return stopping || flush_until > finished; }

  /// close() puts into the ring and then looks at `asleep`; here it is the other way round: one of the two sees the
  /// other.
  void wait_for_work(std::unique_lock<std::mutex>& lock, Clock::time_point until) {
    priority.hurry();  // close() needs the lock for a moment
    asleep.store(true);
    work.wait_until(lock, until, [this] { return stopping || !closed.empty(); });
    asleep.store(false);
  }

  void tidy(std::unique_lock<std::mutex>& lock) {
    lock.unlock();
    if (const base::Status tidied = sink.tidy(options.unix_ms()); !tidied)
      warn("old usage cannot be removed: " + tidied.error().message);
    lock.lock();
  }

  /// Called and left with the lock held. False: the sink did not take it; the group is kept and tried again.
  bool move_group(std::unique_lock<std::mutex>& lock) {
    lock.unlock();
    closed.take(group, kMaxGroup - group.size());
    rows.resize(group.size());
    for (std::size_t i = 0; i < group.size(); ++i) read_row(slots[group[i]], rows[i]);
    const base::Status status = sink.append(rows);
    const std::size_t count = group.size();
    if (status) {
      for (const Slot number : group) {
        free_slot(slots[number]);
        freed.put(number);
      }
      group.clear();
    }
    tell(status);
    lock.lock();
    last_status = status;
    if (status) {
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
      warn(fmt::format("usage cannot be stored now and waits in {}; requests lost so far because that is full: {}: {}",
                       options.path, lost_now, status.error().message));
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
  SpscRing<Slot> closed;   ///< from the loop to the thread, in the order in which they were closed
  SpscRing<Slot> freed;    ///< and back
  std::atomic<bool> asleep = false;
  QuietThread priority;

  std::mutex mutex;
  std::condition_variable work;  ///< the thread waits on it
  std::condition_variable done;  ///< flush() waits on it
  std::uint64_t finished = 0;    ///< slots that were ever put into `closed`, and moved
  std::uint64_t failures = 0;    ///< of the sink
  std::uint64_t flush_until = 0;
  base::Status last_status;
  bool stopping = false;

  std::vector<Slot> group;  ///< the thread's own: taken, and not in the sink yet
  std::vector<UsageRow> rows;
  bool failing = false;
  std::uint64_t told_lost = 0;

  std::atomic<std::uint64_t> lost = 0, moved = 0, interrupted = 0;
  std::thread thread;
};

base::Result<std::unique_ptr<UsageJournal>> UsageJournal::open(Options options, UsageSink& sink) {
  std::string set_aside;
  THAW_ASSIGN_OR_RETURN(UsageJournalFile file, UsageJournalFile::open(options.path, options.slots, set_aside));
  auto impl = std::make_unique<Impl>(std::move(options), sink, std::move(file));
  if (!set_aside.empty())
    impl->warn("what was no usage journal any more was moved to " + set_aside + "; a new one is begun");
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
  impl_->priority.hurry();
  impl_->work.notify_one();
  impl_->thread.join();
}

UsageJournal::Slot UsageJournal::begin(const UsageOpening& opening) {
  if (!impl_->freed.empty()) impl_->freed.take(impl_->free, impl_->slots.size());
  if (impl_->free.size() < impl_->slots.size() / 2) impl_->priority.hurry();
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
  impl_->closed.put(slot);
  if (!impl_->asleep.load() || !impl_->asleep.exchange(false)) return;
  {
    const std::lock_guard lock(impl_->mutex);  // it is on its way to sleep, and then asleep
  }
  impl_->work.notify_one();
}

base::Status UsageJournal::flush() {
  std::unique_lock lock(impl_->mutex);
  const std::uint64_t target = impl_->closed.put_count();
  const std::uint64_t failures_before = impl_->failures;
  impl_->flush_until = std::max(impl_->flush_until, target);
  impl_->priority.hurry();
  impl_->work.notify_one();
  impl_->done.wait(lock, [&] { return impl_->finished >= target || impl_->failures > failures_before; });
  return impl_->finished >= target ? base::Status{} : impl_->last_status;
}

std::uint64_t UsageJournal::lost() const {
  return impl_->lost;
}
std::uint64_t UsageJournal::moved() const {
  return impl_->moved;
}
std::uint64_t UsageJournal::interrupted() const {
  return impl_->interrupted;
}

}  // namespace thaw::store
