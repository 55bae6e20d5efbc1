#include "node/weights/page_fill.h"

#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>

#include <spdlog/spdlog.h>

#include "node/sandbox/clock.h"
#include "node/sandbox/fd.h"
#include "node/sandbox/files.h"
#include "node/weights/page_cache_read.h"
#include "node/weights/residency.h"

namespace thaw::node {
namespace {

struct FileExtent {
  std::string path;
  std::uint64_t bytes = 0;
};

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

/// Of one fill. Guarded by `mutex`, except the slots, each of which belongs to one worker.
struct FillHandle::Job {
  Job(std::vector<FileExtent> given, std::size_t workers) : files(std::move(given)), slots(workers) {}

  const std::vector<FileExtent> files;
  std::vector<WorkerFile> slots;
  bool surveyed = false;           ///< of the worker that has taken it out of the turns

  std::mutex mutex;
  FillProgress progress;
  std::vector<Chunk> chunks;       ///< those that lack something
  std::size_t next = 0;            ///< the next of them
  std::uint64_t budget_bytes = 0;  ///< that may still be read
  unsigned in_flight = 0;
  bool over = false;               ///< no chunk will be taken any more

  /// Finds out what is missing. Errors leave a file to its engine.
  void survey();
  /// The next chunk; false when there is none.
  bool take(Chunk& chunk);
  /// What became of it: whether its bytes have come in, from `begun` until now.
  void finish(const Chunk& chunk, base::TimePoint begun, bool came);
  void end_if_over_locked();
};

/// Appends the chunks of one file that lack something; returns the bytes that are there.
std::uint64_t survey_file(const FileExtent& file, std::size_t index, std::vector<Chunk>& missing) {
  const Fd fd(::open(file.path.c_str(), kOpenFlags));
  if (!fd) return 0;  // the engine will say so
  const std::uint64_t resident = resident_bytes(fd.get(), 0, file.bytes).value_or(0);
  if (resident == file.bytes) return resident;
  for (std::uint64_t offset = 0; offset < file.bytes; offset += PageFiller::kChunkBytes) {
    const std::uint64_t bytes = std::min(PageFiller::kChunkBytes, file.bytes - offset);
    const std::uint64_t there = resident == 0 ? 0 : resident_bytes(fd.get(), offset, bytes).value_or(0);
    if (there < bytes) missing.push_back({index, offset, bytes, bytes - there});
  }
  return resident;
}

void FillHandle::Job::survey() {
  std::vector<Chunk> missing;
  std::uint64_t resident = 0;
  for (std::size_t i = 0; i < files.size(); ++i) resident += survey_file(files[i], i, missing);
  surveyed = true;
  const std::lock_guard lock(mutex);
  progress.resident_bytes = resident;
  chunks = std::move(missing);
  over = over || chunks.empty();
  end_if_over_locked();
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
  budget_bytes -= chunk.missing_bytes;
  over = ++next == chunks.size();
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
  } else {
    over = true;
  }
  end_if_over_locked();
}

void FillHandle::Job::end_if_over_locked() {
  if (!over || in_flight > 0) return;
  progress.done = true;
  // Whoever keeps the handle keeps no descriptors. No worker comes back to them.
  slots.clear();
  chunks.clear();
}

FillHandle::FillHandle() = default;
FillHandle::FillHandle(std::shared_ptr<Job> job) : job_(std::move(job)) {}
FillHandle::FillHandle(FillHandle&&) noexcept = default;

FillHandle& FillHandle::operator=(FillHandle&& other) noexcept {
  if (this != &other) {
    cancel();
    job_ = std::move(other.job_);
  }
  return *this;
}

FillHandle::~FillHandle() { cancel(); }

void FillHandle::cancel() noexcept {
  if (!job_) return;
  const std::lock_guard lock(job_->mutex);
  job_->over = true;  // a worker finds out when its turn comes, and drops it
  job_->end_if_over_locked();
}

FillProgress FillHandle::progress() const {
  if (!job_) {
    FillProgress none;
    none.done = true;
    return none;
  }
  const std::lock_guard lock(job_->mutex);
  return job_->progress;
}

struct PageFiller::Impl {
  using Job = FillHandle::Job;

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::shared_ptr<Job>> turns;
  bool ending = false;
  AvailableMemory available;
  PageCacheReader reader;
  std::vector<std::thread> workers;

  void work(std::size_t worker);
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
  for (const auto& job : impl_->turns) {
    const std::lock_guard lock(job->mutex);
    job->over = true;
    job->end_if_over_locked();
  }
}

FillHandle PageFiller::fill(const std::vector<std::string>& files) {
  std::vector<FileExtent> extents;
  std::uint64_t total_bytes = 0;
  for (const std::string& path : files) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode) || status.st_size <= 0) continue;
    extents.push_back({path, static_cast<std::uint64_t>(status.st_size)});
    total_bytes += extents.back().bytes;
  }
  if (extents.empty() || impl_->workers.empty()) return {};
  auto job = std::make_shared<FillHandle::Job>(std::move(extents), impl_->workers.size());
  job->progress.total_bytes = total_bytes;
  job->budget_bytes = impl_->available();
  {
    const std::lock_guard lock(impl_->mutex);
    if (impl_->ending || impl_->turns.size() >= kMaxFills) return {};
    impl_->turns.push_back(job);
  }
  impl_->changed.notify_all();
  return FillHandle(std::move(job));
}

void PageFiller::Impl::work(std::size_t worker) {
  std::unique_lock lock(mutex);
  for (;;) {
    changed.wait(lock, [this] { return ending || !turns.empty(); });
    if (ending) return;
    const std::shared_ptr<Job> job = std::move(turns.front());
    turns.pop_front();
    if (!job->surveyed) {
      lock.unlock();
      job->survey();
      lock.lock();
      turns.push_front(job);
      changed.notify_all();
      continue;
    }
    Chunk chunk;
    if (!job->take(chunk)) continue;  // it is over, and is not kept here any more
    turns.push_back(job);
    lock.unlock();
    const base::TimePoint begun = now();
    job->finish(chunk, begun, fill_chunk(*job, worker, chunk));
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
