// Which replica serves a request: affinity within its bound, the better of two, outliers, retries.
#include "control/routing.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "control/scheduler.h"

namespace thaw::control::test {

namespace {

constexpr std::uint64_t kGiB = 1ULL << 30;

/// One model with so many replicas, all ready.
class Service {
 public:
  explicit Service(std::uint32_t replicas, std::uint32_t target = 64, Policy policy = {}) : scheduler_(policy) {
    wire::NodeHello hello;
    hello.node = base::NodeName("n");
    hello.devices.push_back({base::DeviceId("cuda0"), spec::DeviceKind::cuda, "", "", 1000 * kGiB, 1000 * kGiB});
    scheduler_.node_joined(hello, now_, actions_);
    spec::ModelSpec spec;
    spec.name = base::ModelName("m");
    spec.resources.device = spec::DeviceKind::cuda;
    spec.resources.device_memory_bytes = kGiB;
    spec.scaling.min_replicas = spec.scaling.max_replicas = replicas;
    spec.scaling.target_concurrency = target;
    spec.scaling.queue.max_length = 1000;
    scheduler_.model_deployed(spec, now_, actions_);
    for (std::uint64_t id = 1; id <= replicas; ++id)
      scheduler_.instance_ready({base::InstanceId(id), "", {}, wire::Way::start, "", 0, false}, now_, actions_);
    actions_.clear();
  }

  /// Where it went; 0: it waits, or was refused.
  std::uint64_t ask(std::uint64_t affinity = 0) {
    scheduler_.request_arrived({base::RequestId(++last_), base::ModelName("m"), base::TenantName("t"), affinity}, now_, actions_);
    return taken();
  }
  void answer(std::uint64_t request, base::Duration after, bool error = false) {
    now_ += after;
    scheduler_.request_answering(base::RequestId(request), now_);
    if (error) scheduler_.request_engine_error(base::RequestId(request));
    scheduler_.request_ended(base::RequestId(request), now_, actions_);
    actions_.clear();
  }
  void fail(std::uint64_t request) {
    scheduler_.request_failed(base::RequestId(request), RequestFailure::cut, now_, actions_);
  }
  [[nodiscard]] std::uint64_t last() const { return last_; }
  Scheduler& scheduler() { return scheduler_; }
  Actions& actions() { return actions_; }
  [[nodiscard]] base::TimePoint now() const { return now_; }
  void wait(base::Duration time) {
    now_ += time;
    while (scheduler_.next_tick() <= now_) scheduler_.tick(now_, actions_);
  }

 private:
  std::uint64_t taken() {
    std::uint64_t where = 0;
    for (const Action& action : actions_) {
      if (const auto* dispatch = std::get_if<Dispatch>(&action)) where = dispatch->instance.value();
    }
    actions_.clear();
    return where;
  }

  Scheduler scheduler_;
  Actions actions_;
  base::TimePoint now_ = base::TimePoint{} + base::Seconds(1000);
  std::uint64_t last_ = 0;
};

}  // namespace

TEST(Affinity, equal_beginnings_meet_and_different_ones_spread) {
  Service service(8);
  std::map<std::uint64_t, std::uint64_t> home;
  std::set<std::uint64_t> used;
  for (int round = 0; round < 3; ++round) {
    for (std::uint64_t affinity = 1; affinity <= 100; ++affinity) {
      const std::uint64_t where = service.ask(affinity);
      ASSERT_NE(where, 0U);
      const auto [at, fresh] = home.emplace(affinity, where);
      EXPECT_EQ(at->second, where) << "round " << round;
      used.insert(where);
      service.answer(service.last(), base::Millis(1));
    }
  }
  EXPECT_EQ(used.size(), 8U);
  EXPECT_EQ(service.scheduler().routing().affinity_followed, 300U);
}

TEST(Affinity, no_replica_gets_a_quarter_more_than_its_share) {
  Service service(8);
  std::map<std::uint64_t, unsigned> load;
  for (unsigned n = 1; n <= 200; ++n) {
    ++load[service.ask(42)];
    unsigned most = 0;
    for (const auto& [replica, count] : load) most = std::max(most, count);
    ASSERT_LE(most, static_cast<unsigned>(kLoadBound * n / 8) + 1) << n;
  }
  EXPECT_GT(service.scheduler().routing().affinity_spilled, 0U);
}

TEST(Affinity, a_replica_that_goes_moves_only_its_own) {
  Service eight(8), seven(8);
  seven.scheduler().instance_down({base::InstanceId(3), wire::DownReason::crashed, "", ""}, seven.now(), seven.actions());
  seven.actions().clear();
  for (std::uint64_t affinity = 1; affinity <= 100; ++affinity) {
    const std::uint64_t before = eight.ask(affinity), after = seven.ask(affinity);
    if (before != 3) EXPECT_EQ(before, after) << affinity;
    else EXPECT_NE(after, 3U);
    eight.answer(eight.last(), base::Millis(1));
    seven.answer(seven.last(), base::Millis(1));
  }
}

TEST(Choices, the_better_of_two_keeps_many_replicas_level) {
  constexpr unsigned kReplicas = 100, kEach = 20;
  Service service(kReplicas);
  std::map<std::uint64_t, unsigned> load;
  for (unsigned n = 0; n < kReplicas * kEach; ++n) ++load[service.ask()];
  for (const auto& [replica, count] : load) {
    EXPECT_GE(count, kEach - 4) << replica;  // of one alone it would be 20 +- 13 or so
    EXPECT_LE(count, kEach + 4) << replica;
  }
}

TEST(Choices, the_last_free_slot_of_many_is_found) {
  constexpr unsigned kReplicas = 20;
  Service service(kReplicas, 1);
  for (unsigned n = 0; n < kReplicas; ++n) EXPECT_NE(service.ask(), 0U) << n;
  EXPECT_EQ(service.ask(), 0U);
}

TEST(Outliers, at_most_half_are_left_out) {
  Policy policy;
  policy.outlier_strikes = 1;
  Service service(4, 64, policy);
  for (int n = 0; n < 20; ++n) {
    service.ask();
    service.answer(service.last(), base::Millis(10), true);
  }
  unsigned out = 0;
  for (const InstanceView& i : service.scheduler().instances()) out += i.ejected_until > service.now() ? 1U : 0U;
  EXPECT_EQ(out, 2U);
}

TEST(Outliers, one_far_slower_than_the_others_is_left_out_and_comes_back) {
  Service service(2, 1);
  for (int n = 0; n < 5; ++n) {
    const std::uint64_t one = service.ask(), slow = service.last();
    const std::uint64_t other = service.ask();
    ASSERT_NE(one, other);
    service.answer(service.last(), base::Millis(100));
    service.answer(slow, base::Seconds(5));
  }
  EXPECT_EQ(service.scheduler().routing().ejections, 1U);
  EXPECT_EQ(service.ask(), 2U);
  EXPECT_EQ(service.ask(), 0U);  // it waits rather than go there
  service.wait(base::Seconds(31));
  std::uint64_t where = 0;
  for (const Action& action : service.actions()) {
    if (const auto* dispatch = std::get_if<Dispatch>(&action)) where = dispatch->instance.value();
  }
  EXPECT_EQ(where, 1U);
}

TEST(Outliers, one_that_never_gets_better_is_replaced) {
  Policy policy;
  policy.outlier_strikes = 1;
  Service service(2, 1, policy);
  for (int n = 0; n < 4; ++n) {
    service.ask();
    const std::uint64_t bad = service.last();
    service.answer(bad, base::Millis(10), true);
    service.wait(base::Seconds(200));
    service.actions().clear();
  }
  bool replaced = false;
  for (const InstanceView& i : service.scheduler().instances()) replaced = replaced || i.reason.find("worse than the others") != std::string::npos;
  EXPECT_TRUE(replaced);
}

TEST(RetryBudget, what_a_replica_takes_with_it_is_tried_again) {
  RetryBudget budget;
  const base::TimePoint now = base::TimePoint{} + base::Seconds(1000);
  for (int n = 0; n < 500; ++n) EXPECT_TRUE(budget.take(now, 256)) << n;
}

TEST(RetryBudget, when_every_try_fails_a_tenth_of_the_requests_is_tried_again) {
  RetryBudget budget;
  base::TimePoint now = base::TimePoint{} + base::Seconds(1000);
  unsigned tried = 0;
  constexpr unsigned kRequests = 100'000;
  for (unsigned n = 0; n < kRequests; ++n) {
    now += base::Duration(base::Millis(1)) / 10;
    budget.earn();
    tried += budget.take(now, 1) ? 1U : 0U;
  }
  EXPECT_NEAR(tried, kRequests / 10 + 10 + 10, 20);  // the allowance at first, and once more in the ten seconds
}

TEST(RetryBudget, time_gives_it_back) {
  RetryBudget budget;
  base::TimePoint now = base::TimePoint{} + base::Seconds(1000);
  while (budget.take(now, 1)) {
  }
  now += base::Seconds(10);
  unsigned tried = 0;
  while (budget.take(now, 1)) ++tried;
  EXPECT_EQ(tried, 10U);
}

}  // namespace thaw::control::test
