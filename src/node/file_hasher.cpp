#include "node/file_hasher.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include <spdlog/spdlog.h>

#include "node/sandbox/clock.h"

namespace thaw::node {
namespace {

constexpr auto kLookAgain = base::Millis(20);

/// Of the calling thread alone. Where it is refused others pay a little, and no more.
void give_way() {
  constexpr int kLowest = 19;
  constexpr int kOfProcess = 1;        // IOPRIO_WHO_PROCESS of linux/ioprio.h; with 0 for the process: this thread
  constexpr int kIdleClass = 3 << 13;  // IOPRIO_CLASS_IDLE
  if (::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kLowest) != 0)
    spdlog::debug("files are hashed at normal priority: {}", std::generic_category().message(errno));
  if (::syscall(SYS_ioprio_set, kOfProcess, 0, kIdleClass) != 0)
    spdlog::debug("files are hashed with reads of normal priority: {}", std::generic_category().message(errno));
}

}  // namespace

FileHasher::FileHasher(Busy busy, Times times) : busy_(std::move(busy)), times_(times), thread_([this] { run(); }) {}

FileHasher::~FileHasher() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_all();
  thread_.join();
  for (auto* queue : {&urgent_, &waiting_}) {
    for (Job& job : *queue) job.done(base::Error{base::ErrorKind::unavailable, "the node is shutting down"});
  }
}

void FileHasher::hash(std::string path, bool urgent, Done done) {
  {
    const std::lock_guard lock(mutex_);
    if (urgent_.size() + waiting_.size() < kMaxWaiting) {
      (urgent ? urgent_ : waiting_).push_back({std::move(path), urgent, std::move(done)});
      changed_.notify_all();
      return;
    }
  }
  done(base::Error{base::ErrorKind::exhausted,
                   "cannot hash " + path + ": too many files wait to be hashed; try again later"});
}

void FileHasher::run() {
  give_way();
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return closing_ || !urgent_.empty() || !waiting_.empty(); });
    if (closing_) return;
    std::deque<Job>& queue = urgent_.empty() ? waiting_ : urgent_;
    Job job = std::move(queue.front());
    queue.pop_front();
    began_ = now();
    lock.unlock();
    auto hashed = hash_file(job.path, [&] { return may_go_on(job.urgent); });
    const bool put_off = !hashed.ok() && hashed.error().kind == base::ErrorKind::unavailable;
    if (!put_off) job.done(std::move(hashed));
    lock.lock();
    if (put_off) (job.urgent ? urgent_ : waiting_).push_front(std::move(job));
  }
}

bool FileHasher::may_go_on(bool urgent) {
  std::unique_lock lock(mutex_);
  while (!closing_ && !urgent) {
    if (!urgent_.empty()) return false;
    lock.unlock();
    const bool busy = busy_();
    lock.lock();
    if (busy) last_busy_ = now();
    if (now() - last_busy_ >= times_.quiet || now() - began_ >= times_.patience) break;
    changed_.wait_for(lock, kLookAgain);
  }
  return !closing_;
}

}  // namespace thaw::node
