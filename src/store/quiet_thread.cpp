#include "store/quiet_thread.h"

#include <pthread.h>
#include <sched.h>

namespace thaw::store {
namespace {

bool set_policy(pthread_t thread, int policy) {
  const sched_param no_priority{};
  return ::pthread_setschedparam(thread, policy, &no_priority) == 0;
}

/// Tried on a thread that is not needed any more.
bool can_come_back() {
  bool could = false;
  std::thread([&could] { could = set_policy(::pthread_self(), SCHED_IDLE) && set_policy(::pthread_self(), SCHED_OTHER); }).join();
  return could;
}

}  // namespace

QuietThread::QuietThread() : possible_(can_come_back()) {}

void QuietThread::is_this_one() { thread_ = ::pthread_self(); }

void QuietThread::quiet() {
  if (possible_ && !quiet_.load(std::memory_order_relaxed) && set_policy(thread_, SCHED_IDLE)) quiet_.store(true, std::memory_order_release);
}

void QuietThread::hurry() {
  if (quiet_.load(std::memory_order_acquire) && quiet_.exchange(false)) set_policy(thread_, SCHED_OTHER);
}

}  // namespace thaw::store
