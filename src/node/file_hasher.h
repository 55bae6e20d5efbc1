#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "base/time.h"
#include "node/weights/integrity.h"

namespace thaw::node {

/// Hashes files, one at a time, on a thread of its own that gives way to everybody: to other threads (nice 19), to other
/// reads (idle I/O class), and what is not urgent to starts too: it stands still while one is under way, its weights come in
/// and the first answer is computed. Not every disk knows classes, and memory knows none.
class FileHasher {
 public:
  static constexpr std::size_t kMaxWaiting = 10'000;
  struct Times {
    base::Duration quiet = base::Seconds(3);       ///< without a start before it goes on
    base::Duration patience = base::Seconds(900);  ///< of standing still for one file; then it goes on all the same
  };

  using Busy = std::function<bool()>;  ///< whether a start or its reading is under way; called on the hasher's thread, often
  using Done = std::function<void(base::Result<HashedFile>)>;  ///< on the hasher's thread, or at once on the caller's

  explicit FileHasher(Busy busy) : FileHasher(std::move(busy), Times()) {}
  FileHasher(Busy busy, Times times);
  /// What was not hashed is answered with `unavailable`.
  ~FileHasher();
  FileHasher(const FileHasher&) = delete;
  FileHasher& operator=(const FileHasher&) = delete;

  /// `urgent`: somebody waits for it. It goes before what is not, which begins again later if it was under way. Errors: as
  /// hash_file(), and exhausted when kMaxWaiting wait already. Any thread.
  void hash(std::string path, bool urgent, Done done);

 private:
  struct Job {
    std::string path;
    bool urgent = false;
    Done done;
  };

  void run();
  bool may_go_on(bool urgent);

  const Busy busy_;
  const Times times_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> urgent_;
  std::deque<Job> waiting_;
  bool closing_ = false;
  base::TimePoint last_busy_{};  ///< these are of the thread
  base::TimePoint began_{};      ///< with the present file
  std::thread thread_;
};

}  // namespace thaw::node
