#include "store/quiet_thread.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>

#include <future>
#include <vector>

#include "store/spsc_ring.h"

namespace thaw::store {
namespace {

int policy_of(pthread_t thread) {
  int policy = -1;
  sched_param parameters{};
  EXPECT_EQ(::pthread_getschedparam(thread, &policy, &parameters), 0);
  return policy;
}

TEST(QuietThread, StandsBackUntilSomebodySaysThatItHurries) {
  QuietThread priority;
  std::promise<void> is_quiet;
  std::promise<void> may_end;
  std::thread thread([&] {
    priority.is_this_one();
    priority.quiet();
    is_quiet.set_value();
    may_end.get_future().wait();
  });
  is_quiet.get_future().wait();
  const int policy = policy_of(thread.native_handle());
  EXPECT_TRUE(policy == SCHED_IDLE || policy == SCHED_OTHER) << policy << "; the latter where it could not come back";
  priority.hurry();
  EXPECT_EQ(policy_of(thread.native_handle()), SCHED_OTHER) << "also where it could not be quiet";
  priority.hurry();
  may_end.set_value();
  thread.join();
}

TEST(SpscRing, GivesAllInTheirOrderFromOneThreadToAnother) {
  constexpr std::size_t kCapacity = 100;
  constexpr std::uint32_t kNumbers = 20'000;
  SpscRing<std::uint32_t> there(kCapacity);
  SpscRing<std::uint32_t> back(kCapacity);
  std::thread other([&] {
    std::vector<std::uint32_t> taken;
    for (std::uint32_t next = 0; next < kNumbers;) {
      taken.clear();
      if (there.take(taken, 7) == 0) std::this_thread::yield();
      for (const std::uint32_t number : taken) {
        EXPECT_EQ(number, next++);
        back.put(number);
      }
    }
  });
  std::vector<std::uint32_t> free(kCapacity, 0);
  for (std::uint32_t next = 0; next < kNumbers;) {
    if (free.empty() && back.take(free, kCapacity) == 0) {
      std::this_thread::yield();
      continue;
    }
    free.pop_back();
    there.put(next++);
  }
  other.join();
  EXPECT_TRUE(there.empty());
  EXPECT_EQ(there.put_count(), kNumbers);
  EXPECT_EQ(free.size() + back.size(), kCapacity);
}

}  // namespace
}  // namespace thaw::store
