#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "node/weights/pipeline/copier.h"

namespace thaw::node::pipeline {

/// Copies to memory of this process, by a few threads: new memory comes page by page from the kernel, which one thread
/// does at a fraction of a disk's rate.
class HostCopier : public Copier {
 public:
  /// `slots`: how many the ring has.
  HostCopier(unsigned threads, unsigned slots);
  ~HostCopier() override;
  HostCopier(const HostCopier&) = delete;
  HostCopier& operator=(const HostCopier&) = delete;

  /// Half of the processors, 4 at most: the rest is for the engine.
  static unsigned default_threads();

  base::Status begin(unsigned slot, std::span<const Copy> copies) override;
  base::Result<bool> done(unsigned slot) override;
  base::Status settle() override;

 private:
  struct Job {
    Copy copy;
    unsigned slot = 0;
  };
  void work();

  std::mutex mutex_;
  std::condition_variable jobs_changed_;
  std::condition_variable idle_changed_;
  std::deque<Job> jobs_;  ///< of chunks in the ring, so no more than that holds
  std::size_t unfinished_ = 0;
  std::vector<std::size_t> pending_;  ///< by slot: jobs that have not finished
  bool ending_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace thaw::node::pipeline
