#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include "base/result.h"

namespace thaw::node {

/// The problem: namespaces belong to threads, what a thread starts inherits them, and a process that is tied to its
/// parent's life (PR_SET_PDEATHSIG) is tied to the thread that started it. So a sandbox whose runtime runs on the host
/// side of its namespaces gets a thread that moves into them, starts everything that belongs there, and lives as long
/// as they do.
///
/// run() may be called from any thread; one piece of work at a time.
class NamespaceThread {
 public:
  NamespaceThread();
  /// The processes that it started must have been reaped.
  ~NamespaceThread();
  NamespaceThread(const NamespaceThread&) = delete;
  NamespaceThread& operator=(const NamespaceThread&) = delete;

  /// Carries `work` out on the thread and returns its result. Blocks for as long as that takes.
  base::Status run(const std::function<base::Status()>& work);

 private:
  void loop();

  std::mutex turn_;  ///< held by whoever has work on it
  std::mutex mutex_;
  std::condition_variable changed_;
  const std::function<base::Status()>* work_ = nullptr;
  base::Status result_;
  bool done_ = false;
  bool closing_ = false;
  std::thread thread_;
};

}  // namespace thaw::node
