#include "node/weights/page_fill.h"

#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include <spdlog/spdlog.h>

#include "node/sandbox/clock.h"
#include "node/sandbox/fd.h"
#include "node/sandbox/files.h"
#include "node/weights/need_order.h"
#include "node/weights/page_cache_read.h"
#include "node/weights/residency.h"

namespace thaw::node {
namespace {

struct FileExtent {
  std::string path;
  std::uint64_t bytes = 0;
};

constexpr std::size_t kWorthOrdering = 8;  ///< chunks: fewer are there before their order matters
constexpr int kOpenFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;  // should it be a FIFO by now, nobody waits for its writer

/// One worker's descriptor: the kernel's readahead follows a descriptor, so workers must not share one.
struct WorkerFile {
  std::size_t index = SIZE_MAX;  ///< in the fill's files
  Fd fd;
};

struct Chunk {
  std::size_t file = 0;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  std::uint64_t missing_bytes = 0;  ///< when the fill began
};

}  // namespace

std::uint64_t available_memory_bytes() {
  const auto text = read_small_file("/proc/meminfo");
  const std::string name = "MemAvailable:";
  const std::size_t at = text.ok() ? text->find(name) : std::string::npos;
  return at == std::string::npos ? UINT64_MAX : std::strtoull(text->c_str() + at + name.size(), nullptr, 10) * 1024;
}

double FillProgress::bytes_per_s() const {
  const double seconds = base::to_s(last_read - first_read);
  return read_bytes > 0 && seconds > 0 ? static_cast<double>(read_bytes) / seconds : 0;
}

/// What all fills of a filler have in common; they may outlive it.
struct FillHandle::Ledger {
  std::mutex mutex;
  FillTotals totals;
  std::uint64_t promised_bytes = 0;  ///< that fills under way have still to read
};

/// Of one fill. Guarded by `mutex` (which comes before the ledger's), except the files and slots: what the survey found is never changed again, and
/// each slot belongs to one worker.
struct FillHandle::Job {
  Job(std::vector<std::string> given, std::size_t workers, std::shared_ptr<Ledger> shared)
      : paths(std::move(given)), slots(workers), ledger(std::move(shared)) {
    const std::lock_guard lock(ledger->mutex);
    ++ledger->totals.under_way;
  }

  const std::vector<std::string> paths;
  std::vector<FileExtent> files;  ///< those of them that can be read
  std::vector<WorkerFile> slots;
  bool surveyed = false;  ///< of the worker that has taken it out of the turns
  const std::shared_ptr<Ledger> ledger;

  std::mutex mutex;
  std::map<std::uint64_t, FillDone> users;  ///< by handle
  std::uint64_t last_user = 0;
  FillProgress progress;
  std::vector<Chunk> chunks;       ///< those that lack something
  std::size_t next = 0;            ///< the next of them
  std::atomic<std::size_t> left = 0;  ///< chunks from there on, for who decides on turns; may be a moment old
  std::uint64_t budget_bytes = 0;  ///< that may still be read; promised in the ledger
  unsigned in_flight = 0;
  bool over = false;  ///< no chunk will be taken any more

  /// One more user; 0 when it is too late.
  std::uint64_t join(FillDone done);
  void leave(std::uint64_t user);
  /// Finds out what is missing. Errors leave a file to its engine.
  void survey(const PageFiller::AvailableMemory& available);
  /// Puts what is still to be read into the order in which an engine needs it. Others may be reading meanwhile.
  void put_in_order();
  /// The next chunk; false when there is none.
  bool take(Chunk& chunk);
  /// What became of it: whether its bytes have come in, from `begun` until now.
  void finish(const Chunk& chunk, base::TimePoint begun, bool came);
  /// Tells the users once it has ended.
  void tell();
  void end();
  void end_if_over_locked();
};

std::uint64_t FillHandle::Job::join(FillDone done) {
  const std::lock_guard lock(mutex);
  if (over) return 0;
  users.emplace(++last_user, std::move(done));
  return last_user;
}

void FillHandle::Job::leave(std::uint64_t user) {
  const std::lock_guard lock(mutex);
  users.erase(user);
  if (!users.empty()) return;
  over = true;  // a worker finds out when its turn comes, and drops it
  end_if_over_locked();
}

/// Appends the chunks of one file that lack something; returns the bytes that are there.
std::uint64_t survey_file(const FileExtent& file, std::size_t index, std::vector<Chunk>& missing) {
  const Fd fd(::open(file.path.c_str(), kOpenFlags));
  if (!fd) return 0;  // the engine will say so
  const std::uint64_t resident = resident_bytes(fd.get(), 0, file.bytes).value_or(0);
  if (resident == file.bytes) return resident;
  std::uint64_t found = 0;  // not `resident`: an engine may bring pages in meanwhile, and what is neither found nor missing would be nowhere
  for (std::uint64_t offset = 0; offset < file.bytes; offset += PageFiller::kChunkBytes) {
    const std::uint64_t bytes = std::min(PageFiller::kChunkBytes, file.bytes - offset);
    const std::uint64_t there = resident == 0 ? 0 : resident_bytes(fd.get(), offset, bytes).value_or(0);
    if (there < bytes) missing.push_back({index, offset, bytes, bytes - there});
    found += there;
  }
  return found;
}

void FillHandle::Job::survey(const PageFiller::AvailableMemory& available) {
  FillProgress found;
  std::vector<Chunk> missing;
  for (const std::string& path : paths) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode) || status.st_size <= 0) continue;
    files.push_back({path, static_cast<std::uint64_t>(status.st_size)});
    found.total_bytes += files.back().bytes;
    found.resident_bytes += survey_file(files.back(), files.size() - 1, missing);
  }
  surveyed = true;
  std::uint64_t missing_bytes = 0;
  for (const Chunk& chunk : missing) missing_bytes += chunk.missing_bytes;
  const std::uint64_t memory_bytes = missing.empty() ? 0 : available();

  const std::lock_guard lock(mutex);
  progress.total_bytes = found.total_bytes;
  progress.resident_bytes = found.resident_bytes;
  if (!over) {
    chunks = std::move(missing);
    left = chunks.size();
    over = chunks.empty();
    const std::lock_guard ledger_lock(ledger->mutex);
    ledger->totals.resident_bytes += found.resident_bytes;
    budget_bytes = std::min(missing_bytes, memory_bytes - std::min(memory_bytes, ledger->promised_bytes));
    ledger->promised_bytes += budget_bytes;
  }
  end_if_over_locked();
}

void FillHandle::Job::put_in_order() {
  if (left < kWorthOrdering) return;
  std::vector<std::string> surveyed_paths;
  for (const FileExtent& file : files) surveyed_paths.push_back(file.path);
  const NeedOrder order(surveyed_paths);
  if (!order.differs()) return;
  const std::lock_guard lock(mutex);
  if (over) return;
  std::stable_sort(chunks.begin() + static_cast<std::ptrdiff_t>(next), chunks.end(), [&order](const Chunk& a, const Chunk& b) {
    return order.turn(a.file, a.offset, a.bytes) < order.turn(b.file, b.offset, b.bytes);
  });
}

bool FillHandle::Job::take(Chunk& chunk) {
  const std::lock_guard lock(mutex);
  if (over) return false;
  chunk = chunks[next];
  if (chunk.missing_bytes > budget_bytes) {
    for (; next < chunks.size(); ++next) progress.left_bytes += chunks[next].missing_bytes;
    over = true;
    end_if_over_locked();
    return false;
  }
  over = ++next == chunks.size();
  left = chunks.size() - next;
  budget_bytes -= chunk.missing_bytes;
  const std::lock_guard ledger_lock(ledger->mutex);
  ledger->promised_bytes -= chunk.missing_bytes;
  ++in_flight;
  return true;
}

void FillHandle::Job::finish(const Chunk& chunk, base::TimePoint begun, bool came) {
  const std::lock_guard lock(mutex);
  --in_flight;
  if (came) {
    progress.first_read = progress.read_bytes == 0 ? begun : std::min(progress.first_read, begun);
    progress.last_read = now();
    progress.read_bytes += chunk.missing_bytes;
    const std::lock_guard ledger_lock(ledger->mutex);
    ledger->totals.read_bytes += chunk.missing_bytes;
  } else {
    over = true;
  }
  end_if_over_locked();
}

void FillHandle::Job::tell() {
  std::map<std::uint64_t, FillDone> told;
  FillProgress last;
  {
    const std::lock_guard lock(mutex);
    if (!progress.done) return;
    told.swap(users);
    last = progress;
  }
  for (const auto& [user, done] : told)
    if (done) done(last);
}

void FillHandle::Job::end() {
  const std::lock_guard lock(mutex);
  over = true;
  end_if_over_locked();
}

void FillHandle::Job::end_if_over_locked() {
  if (!over || in_flight > 0 || progress.done) return;
  progress.done = true;
  // Whoever keeps the handle keeps no descriptors. No worker comes back to them.
  slots.clear();
  chunks.clear();
  const std::lock_guard ledger_lock(ledger->mutex);
  --ledger->totals.under_way;
  ledger->totals.left_bytes += progress.left_bytes;
  ledger->promised_bytes -= budget_bytes;
  budget_bytes = 0;
}

FillHandle::FillHandle() = default;
FillHandle::FillHandle(std::shared_ptr<Job> job, std::uint64_t id) : job_(std::move(job)), id_(id) {}
FillHandle::FillHandle(FillHandle&& other) noexcept : job_(std::move(other.job_)), id_(std::exchange(other.id_, 0)) {}

FillHandle& FillHandle::operator=(FillHandle&& other) noexcept {
  if (this != &other) {
    cancel();
    job_ = std::move(other.job_);
    id_ = std::exchange(other.id_, 0);
  }
  return *this;
}

FillHandle::~FillHandle() { cancel(); }

void FillHandle::cancel() noexcept {
  if (id_ != 0) job_->leave(std::exchange(id_, 0));
}

FillProgress FillHandle::progress() const {
  FillProgress result;
  result.done = true;
  if (!job_) return result;
  const std::lock_guard lock(job_->mutex);
  result = job_->progress;
  result.done = result.done || (id_ == 0 && !job_->users.empty());
  return result;
}

struct PageFiller::Impl {
  using Job = FillHandle::Job;

  const std::shared_ptr<FillHandle::Ledger> ledger = std::make_shared<FillHandle::Ledger>();
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::shared_ptr<Job>> turns;
  bool favour = false;  ///< whose turn the last one was: the smallest's, or who was first
  std::map<std::vector<std::string>, std::weak_ptr<Job>> by_files;  ///< to be joined
  bool ending = false;
  AvailableMemory available;
  PageCacheReader reader;
  std::vector<std::thread> workers;

  void work(std::size_t worker);
  [[nodiscard]] std::shared_ptr<Job> next_in_turn_locked();
  [[nodiscard]] bool fill_chunk(Job& job, std::size_t worker, const Chunk& chunk) const;
};

unsigned PageFiller::default_workers() { return std::clamp(std::thread::hardware_concurrency(), 2U, 4U); }

PageFiller::PageFiller(unsigned workers, AvailableMemory available) : impl_(std::make_unique<Impl>()) {
  impl_->available = std::move(available);
  if (!impl_->reader.usable()) {
    spdlog::warn("weights are not read ahead of engines: cannot open /dev/null: {}", std::generic_category().message(errno));
    return;
  }
  for (std::size_t i = 0; i < std::max(1U, workers); ++i) impl_->workers.emplace_back([this, i] { impl_->work(i); });
}

PageFiller::~PageFiller() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->ending = true;
  }
  impl_->changed.notify_all();
  for (std::thread& worker : impl_->workers) worker.join();
  for (const auto& job : impl_->turns) job->end();
}

FillTotals PageFiller::totals() const {
  const std::lock_guard lock(impl_->ledger->mutex);
  return impl_->ledger->totals;
}

FillHandle PageFiller::fill(const std::vector<std::string>& files, FillDone done) {
  if (files.empty() || impl_->workers.empty()) return {};
  std::shared_ptr<FillHandle::Job> job;
  std::uint64_t user = 0;
  {
    const std::lock_guard lock(impl_->mutex);
    if (const auto found = impl_->by_files.find(files); found != impl_->by_files.end()) job = found->second.lock();
    if (job) user = job->join(done);
    if (user != 0) return {std::move(job), user};
    if (impl_->ending || impl_->turns.size() >= kMaxFills) return {};
    std::erase_if(impl_->by_files, [](const auto& entry) { return entry.second.expired(); });
    job = std::make_shared<FillHandle::Job>(files, impl_->workers.size(), impl_->ledger);
    user = job->join(std::move(done));
    impl_->by_files[files] = job;
    impl_->turns.push_back(job);
  }
  impl_->changed.notify_all();
  return {std::move(job), user};
}

/// Every other turn is that of the fill with the least left, so that a small one has half of the disk however many huge ones there are; the rest go
/// round, so that nobody starves.
std::shared_ptr<FillHandle::Job> PageFiller::Impl::next_in_turn_locked() {
  auto chosen = turns.begin();
  favour = !favour;
  if (favour) chosen = std::min_element(turns.begin(), turns.end(), [](const auto& a, const auto& b) { return a->left < b->left; });
  std::shared_ptr<Job> job = std::move(*chosen);
  turns.erase(chosen);
  return job;
}

void PageFiller::Impl::work(std::size_t worker) {
  std::unique_lock lock(mutex);
  for (;;) {
    changed.wait(lock, [this] { return ending || !turns.empty(); });
    if (ending) return;
    const std::shared_ptr<Job> job = next_in_turn_locked();
    if (!job->surveyed) {
      lock.unlock();
      job->survey(available);
      job->tell();
      lock.lock();
      turns.push_front(job);
      changed.notify_all();
      lock.unlock();
      job->put_in_order();
      lock.lock();
      continue;
    }
    Chunk chunk;
    const bool taken = job->take(chunk);
    if (taken) turns.push_back(job);  // else it is over, and is not kept here any more
    lock.unlock();
    if (taken) {
      const base::TimePoint begun = now();
      job->finish(chunk, begun, fill_chunk(*job, worker, chunk));
    }
    job->tell();
    lock.lock();
  }
}

bool PageFiller::Impl::fill_chunk(Job& job, std::size_t worker, const Chunk& chunk) const {
  const std::string& path = job.files[chunk.file].path;
  WorkerFile& slot = job.slots[worker];
  if (slot.index != chunk.file) slot = {chunk.file, Fd(::open(path.c_str(), kOpenFlags))};
  if (slot.fd && reader.bring_in(slot.fd.get(), chunk.offset, chunk.bytes)) return true;
  spdlog::warn("{} is left to its engine to read: {}", path, std::generic_category().message(errno));
  return false;
}

}  // namespace thaw::node
