// Every policy on traces small enough to compute by hand, and what must hold for all of them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "sim/bound.h"
#include "sim/experiment.h"
#include "sim/generate.h"
#include "sim/policy.h"
#include "sim/report.h"
#include "sim/world.h"
#include "unit/sim/by_hand.h"

namespace thaw::sim {
namespace {

using base::Seconds;

/// A machine with two devices for two models each.
Fleet small_fleet(std::uint32_t devices = 2) {
  Fleet fleet = round_fleet(devices, 200, "model");
  fleet.name = "small";
  return fleet;
}

TEST(AlwaysOn, NobodyWaitsAndEverythingIsHeldForEver) {
  const Outcome o = simulate(small_fleet(), trace_of({{0, 0}, {5, 1}, {9, 2}}), "always-on");
  EXPECT_EQ(delays(o), (std::vector<double>{0, 0, 0}));
  EXPECT_DOUBLE_EQ(o.held_device_s, 3 * 0.5 * 10);
  EXPECT_DOUBLE_EQ(o.used_device_s, 2 * 10);
  EXPECT_EQ(o.cold, 0U);
}

TEST(AlwaysOn, RefusesWhatDoesNotFit) {
  const Outcome o = simulate(small_fleet(1), trace_of({{0, 0}, {0, 1}, {0, 2}}), "always-on");
  EXPECT_EQ(o.refused, 1U);
  EXPECT_EQ(delays(o)[2], -1);
}

TEST(Ollama, KeepsAModelForFiveMinutes) {
  const Outcome o = simulate(small_fleet(), trace_of({{0, 0}, {200, 0}, {502, 0}, {1000, 0}}), "ollama");
  // Restored from disk; warm; 301 s after the last one's end: from the page cache, and so again.
  EXPECT_EQ(delays(o), (std::vector<double>{5, 0, 2, 2}));
  EXPECT_EQ(o.restores, 3U);
}

TEST(Ollama, TheLongestIdleMakesRoom) {
  const Outcome o = simulate(small_fleet(1), trace_of({{0, 0}, {10, 1}, {20, 2}, {30, 1}, {40, 0}}), "ollama");
  // The third model waits a second for the first to leave; the second is still there; then the first is back after the
  // third has left.
  EXPECT_EQ(delays(o), (std::vector<double>{5, 5, 6, 0, 3}));
}

TEST(Ollama, RefusesBeyondItsQueueAndItsPatience) {
  Fleet fleet = small_fleet(1);
  std::vector<std::pair<int, ModelIndex>> requests(600, {0, 0});
  const Outcome o = simulate(fleet, trace_of(requests), "ollama");
  // 512 wait; up after 5 s; one is done each second until the patience of 120 s ends, and two are under way then.
  EXPECT_EQ(o.answered, 117U);
  EXPECT_EQ(o.refused, 600U - 117U);
}

TEST(LlamaSwap, OneModelOnADeviceAndNoEndOfItsOwn) {
  const Outcome o = simulate(small_fleet(1), trace_of({{0, 0}, {10, 1}, {100'000, 1}, {100'010, 0}}), "llama-swap");
  EXPECT_EQ(delays(o), (std::vector<double>{5, 6, 0, 3}));
}

TEST(InferX, FillsTheFirstDeviceAndKeepsIdleReplicas) {
  const Outcome o = simulate(small_fleet(), trace_of({{0, 0}, {20, 1}, {100'000, 0}, {100'000, 1}}), "inferx");
  EXPECT_EQ(delays(o), (std::vector<double>{5, 5, 0, 0}));
  EXPECT_EQ(o.peak_devices, 1U);
}

TEST(InferX, BeginsAsManyReplicasAsRequestsNeed) {
  const Outcome o = simulate(small_fleet(), trace_of({{0, 0}, {0, 0}, {0, 0}}), "inferx");
  EXPECT_EQ(o.restores, 2U);  // two requests a replica
}

TEST(ServerlessLlm, KeepsAModelAsLongAsItTookToComeUp) {
  const Outcome o = simulate(small_fleet(), trace_of({{0, 0}, {10, 0}, {17, 0}, {19, 0}}), "serverlessllm");
  // Up in 5 s, serves until 6, kept until 11; so until 16; comes back in 2 s and is kept for 2 s.
  EXPECT_EQ(delays(o), (std::vector<double>{5, 0, 2, 0}));
}

TEST(ServerlessLlm, GoesToWhereTheModelIsUpFirst) {
  Fleet fleet = small_fleet(1);
  fleet.nodes[0].count = 2;
  // Both on the first machine would share its disk: the second model goes to the other one.
  const Outcome o = simulate(fleet, trace_of({{0, 0}, {0, 1}}), "serverlessllm");
  EXPECT_EQ(delays(o), (std::vector<double>{5, 5}));
}

TEST(Knative, GoesToZeroAfterAMinuteWithoutTraffic) {
  const Outcome o = simulate(small_fleet(), trace_of({{0, 0}, {60, 0}, {200, 0}}), "knative");
  EXPECT_EQ(delays(o), (std::vector<double>{5, 0, 2}));
  EXPECT_EQ(o.stops, 1U);
}

TEST(Thaw, IsTheSchedulerOfTheDaemon) {
  const Outcome o = simulate(small_fleet(), trace_of({{0, 0}, {10, 0}, {100'000, 0}}), "thaw");
  EXPECT_EQ(delays(o)[0], 5);
  EXPECT_EQ(delays(o)[1], 0);
  EXPECT_EQ(o.violated, 0U);
}

TEST(Thaw, WithoutImagesEveryColdStartIsAStart) {
  const Outcome o = simulate(small_fleet(), trace_of({{0, 0}, {100'000, 0}}), "thaw-plain");
  EXPECT_EQ(delays(o), (std::vector<double>{15, 12}));
  EXPECT_EQ(o.starts, 2U);
}

TEST(LowerBound, IsTheCheaperOfHoldingAndOfGoingDownAndUp) {
  const Trace trace = trace_of({{0, 0}, {3, 0}, {100, 0}});
  // Stopped and restored: 3 s (1 s, and 1 s + 1 s); standby would be 4 s. Serving 3 s, a gap of 2 s held, a gap of 96 s not.
  EXPECT_DOUBLE_EQ(lower_bound(small_fleet(), trace).held_device_s, 0.5 * (3 + 3 + 2 + 3));
}

TEST(LowerBound, TakesTheWayThatHoldsLess) {
  Fleet fleet = small_fleet();
  fleet.costs.stop = Seconds(5);
  EXPECT_DOUBLE_EQ(lower_bound(fleet, trace_of({{0, 0}})).held_device_s, 0.5 * (4 + 1));
}

TEST(LowerBound, BeyondItsConcurrencyAModelNeedsAnotherReplica) {
  // Two at once for each: the third one needs a second replica, twice, with 8 s between.
  EXPECT_DOUBLE_EQ(lower_bound(small_fleet(), trace_of({{0, 0}, {0, 0}, {0, 0}})).held_device_s, 0.5 * 2 * (3 + 1));
  EXPECT_DOUBLE_EQ(lower_bound(small_fleet(), trace_of({{0, 0}, {0, 0}, {0, 0}, {2, 0}, {2, 0}, {2, 0}})).held_device_s, 0.5 * 2 * (3 + 1 + 1 + 1));
}

TEST(LowerBound, RequestsThatOverlapAreHeldOnce) {
  EXPECT_DOUBLE_EQ(lower_bound(small_fleet(), trace_of({{0, 0}, {0, 0}})).held_device_s, 0.5 * (3 + 1));
}

// --- what holds for all

Trace busy_trace(std::uint64_t seed, bool durations) {
  Synthetic s;
  s.requests = 1500;
  s.models = 40;
  s.span = std::chrono::hours(2);
  s.cv = 3;
  s.seed = seed;
  if (durations) s.duration = Seconds(5);
  return generate(s);
}

class EveryPolicy : public testing::TestWithParam<std::string> {};

TEST_P(EveryPolicy, LosesNothingAndHoldsNoMoreThanThereIs) {
  for (const bool durations : {false, true}) {
    for (const std::uint32_t devices : {1U, 3U, 12U}) {
      const Trace trace = busy_trace(devices, durations);
      const Fleet fleet = resized(default_fleet(durations), devices);
      const auto policy = make_policy(GetParam());
      World world(fleet, trace, *policy);
      const Outcome o = world.run();
      EXPECT_EQ(o.violated, 0U) << (o.violations.empty() ? "" : o.violations.front());
      EXPECT_EQ(o.answered + o.refused, trace.requests.size());
      EXPECT_LE(o.peak_devices, devices);
      EXPECT_TRUE(world.run_until_quiet(std::chrono::hours(24 * 400))) << "still busy long after the last request";
    }
  }
}

TEST_P(EveryPolicy, GivesTheSameBytesAgain) {
  const Trace trace = busy_trace(5, false);
  const Fleet fleet = resized(default_fleet(false), 4);
  ExperimentOptions options;
  options.policies = {GetParam()};
  const auto run = [&] {
    const Experiment e = run_experiment(fleet, trace, options, [](const std::string&) {});
    return to_json(e) + to_html(e);
  };
  EXPECT_EQ(run(), run());
}

std::vector<std::string> all_policies() {
  return parse_policies("all").value();
}

INSTANTIATE_TEST_SUITE_P(All, EveryPolicy, testing::ValuesIn(all_policies()), [](const auto& instance) {
  std::string name = instance.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST(Policies, AreFoundByName) {
  EXPECT_EQ(parse_policies("knative,thaw,knative").value(), (std::vector<std::string>{"knative", "thaw"}));
  EXPECT_EQ(parse_policies("knatve").error().message, "there is no policy \"knatve\"; did you mean knative?");
  EXPECT_FALSE(parse_policies("").ok());
}

TEST(Scale, AHundredThousandSleepingModelsCostNothing) {
  Synthetic s;
  s.models = 100'000;
  s.requests = 2'000;
  s.zipf = 0.5;
  const Trace trace = generate(s);
  Fleet fleet = resized(default_fleet(false), 800);
  fleet.images_ready = false;
  const Outcome o = simulate(fleet, trace, "thaw");
  EXPECT_EQ(o.answered, trace.requests.size());
  EXPECT_EQ(o.violated, 0U);
}

TEST(SmallestFleet, IsTheFewestDevicesThatMeetTheGoal) {
  const Trace trace = busy_trace(3, false);
  const Fleet fleet = default_fleet(false);
  const std::uint32_t devices = smallest_fleet(fleet, trace, "always-on", 64);
  ASSERT_GT(devices, 1U);
  EXPECT_GE(simulate(resized(fleet, devices), trace, "always-on").within_5s, kAttainment);
  EXPECT_LT(simulate(resized(fleet, devices - 1), trace, "always-on").within_5s, kAttainment);
}

}  // namespace
}  // namespace thaw::sim
