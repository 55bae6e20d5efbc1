#pragma once

#include <atomic>
#include <thread>

namespace thaw::store {

/// A thread whose work can wait: it computes when nobody else wants the processor (SCHED_IDLE), so that a burst of its work delays no request. When its
/// work can wait no longer, somebody says hurry(), and it has its usual share again.
///
/// Whatever it holds may be held for long meanwhile: no lock that a request needs.
class QuietThread {
 public:
  /// Where the kernel would not let a thread come back (it takes CAP_SYS_NICE, or RLIMIT_NICE), it is never quiet.
  QuietThread();

  /// From now on quiet() and hurry() are about this thread. Call on it, before hurry() can be.
  void is_this_one();
  void quiet();  ///< on the thread itself
  void hurry();  ///< any thread; cheap when it is not quiet

 private:
  const bool possible_;
  std::atomic<bool> quiet_ = false;
  pthread_t thread_{};
};

}  // namespace thaw::store
