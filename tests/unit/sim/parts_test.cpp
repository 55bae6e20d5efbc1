// The simulator's clockwork, computed by hand.
#include <gtest/gtest.h>

#include "sim/compute.h"
#include "sim/fleet.h"
#include "sim/kpa.h"
#include "sim/link.h"
#include "sim/page_cache.h"

namespace thaw::sim {
namespace {

using base::Millis;
using base::Seconds;
using base::TimePoint;

TimePoint at(double s) {
  return TimePoint(base::Duration(static_cast<std::int64_t>(s * 1e9)));
}

TEST(Link, OneAloneGetsTheWholeRate) {
  Link link(100);
  link.add(1, 50, at(2));
  EXPECT_EQ(link.next(), at(2.5));
  EXPECT_EQ(link.pop(link.next()), 1U);
  EXPECT_EQ(link.next(), base::never());
}

TEST(Link, TwoShareEvenlyAndTheSecondSpeedsUpWhenTheFirstIsDone) {
  Link link(100);
  link.add(1, 100, at(0));
  link.add(2, 200, at(0));  // both at 50 a second
  EXPECT_EQ(link.next(), at(2));
  EXPECT_EQ(link.pop(at(2)), 1U);  // 100 are left of the second, alone now
  EXPECT_EQ(link.next(), at(3));
  EXPECT_NEAR(link.bytes_left(at(2.5)), 50, 1e-6);
  EXPECT_EQ(link.pop(at(3)), 2U);
}

TEST(Link, WhoLeavesGivesItsShareBack) {
  Link link(100);
  link.add(1, 100, at(0));
  link.add(2, 100, at(0));
  link.remove(1, at(1));  // 50 are left of the second
  EXPECT_EQ(link.next(), at(1.5));
  link.remove(7, at(1.2));  // not here
  EXPECT_EQ(link.size(), 1U);
}

TEST(PageCache, TheLongestUnusedLeaves) {
  PageCache cache(100);
  cache.use(1, 40);
  cache.use(2, 40);
  cache.use(1, 40);
  cache.use(3, 40);
  EXPECT_TRUE(cache.has(1));
  EXPECT_FALSE(cache.has(2));
  EXPECT_TRUE(cache.has(3));
  cache.resize(50);
  EXPECT_FALSE(cache.has(1));
  EXPECT_TRUE(cache.has(3));
  cache.use(4, 51);  // larger than all of it
  EXPECT_FALSE(cache.has(4));
  EXPECT_TRUE(cache.has(3));
}

using Kind = DeviceCompute::Event::Kind;

void expect_next(DeviceCompute& compute, double s, Kind kind, RequestIndex request) {
  ASSERT_NEAR(base::to_s(compute.next().time_since_epoch()), s, 1e-6);
  const auto event = compute.pop(compute.next());
  EXPECT_EQ(event.kind, kind);
  EXPECT_EQ(event.request, request);
}

TEST(Compute, APromptThenAStepForEachToken) {
  DeviceCompute compute;
  const auto slot = compute.add_replica(0.010, 0.002);
  compute.begin(slot, 1, {0.5, 10}, at(1));
  expect_next(compute, 1.5, Kind::first_token, 1);
  expect_next(compute, 1.5 + 10 * 0.012, Kind::ended, 1);
  EXPECT_EQ(compute.next(), base::never());
}

TEST(Compute, PromptsGoFirstAndBatchesAreSharedSteps) {
  DeviceCompute compute;
  const auto slot = compute.add_replica(0.010, 0.002);
  compute.begin(slot, 1, {0.1, 10}, at(0));
  expect_next(compute, 0.1, Kind::first_token, 1);
  compute.begin(slot, 2, {0.3, 10},
                at(0.1 + 5 * 0.012));  // five tokens are out; the first waits for the second's prompt
  expect_next(compute, 0.46, Kind::first_token, 2);
  expect_next(compute, 0.46 + 5 * 0.014, Kind::ended, 1);
  expect_next(compute, 0.46 + 5 * 0.014 + 5 * 0.012, Kind::ended, 2);
}

TEST(Compute, ReplicasThatWorkAtTheSameTimeShareTheDevice) {
  DeviceCompute compute;
  const auto a = compute.add_replica(0.01, 0), b = compute.add_replica(0.01, 0);
  compute.begin(a, 1, {1.0, 0}, at(0));
  compute.begin(b, 2, {1.0, 0}, at(0.5));  // from here on at half speed
  expect_next(compute, 1.5, Kind::ended, 1);
  expect_next(compute, 2.0, Kind::ended, 2);
  EXPECT_NEAR(compute.busy_s(), 2.0, 1e-9);
}

TEST(Kpa, ScalesToTheAverageOfTheStableWindow) {
  KpaWindows windows;
  windows.note(at(0), 14);  // target 70% of 10: two replicas
  EXPECT_EQ(windows.look(at(60), 2, 10), 2U);
  windows.note(at(60), 0);
  EXPECT_EQ(windows.look(at(90), 2, 10), 1U);   // half of the window: 7 on average
  EXPECT_EQ(windows.look(at(119), 1, 10), 1U);  // not yet a whole window without traffic
  EXPECT_EQ(windows.look(at(121), 1, 10), 0U);
  EXPECT_TRUE(windows.empty());
}

TEST(Kpa, PanicsAtTwiceWhatIsReadyAndDoesNotGoDownThen) {
  KpaWindows windows;
  windows.note(at(0), 1);
  EXPECT_EQ(windows.look(at(60), 1, 10), 1U);
  windows.note(at(60), 70);
  EXPECT_EQ(windows.look(at(66), 1, 10), 10U);  // the panic window sees 70
  windows.note(at(66), 7);
  EXPECT_EQ(windows.look(at(80), 10, 10), 10U);
  EXPECT_EQ(windows.look(at(140), 10, 10), 5U);  // calm for a window; at most half of them at a time
}

TEST(Fleet, TheDefaultsAreValidAndDealModelsOutByShare) {
  const Fleet fleet = default_fleet(false);
  EXPECT_EQ(fleet.device_count(), 32U);
  EXPECT_EQ(default_fleet(true).models.size(), 1U);
  int large = 0;
  for (std::uint32_t model = 0; model < 10'000; ++model) large += fleet.class_of(model).name == "14B" ? 1 : 0;
  EXPECT_NEAR(large, 2000, 150);
}

TEST(Fleet, MistakesAreNamedWithTheirPlace) {
  const auto error = [](const std::string& text) { return parse_fleet(text, "f.yaml").error().message; };
  const std::string head = "apiVersion: thaw/v1\nkind: Fleet\n";
  EXPECT_NE(error(head + "nodes: []\n").find("f.yaml:3:8: nodes: must be a list"), std::string::npos)
      << error(head + "nodes: []\n");
  const std::string typo = error(head + "nodes:\n  - {device: 8}\n");
  EXPECT_NE(typo.find("nodes[0].device: unknown key; did you mean devices?"), std::string::npos) << typo;
  EXPECT_NE(error("kind: Model\n").find("Fleet"), std::string::npos);
}

TEST(Fleet, AnotherNumberOfDevicesKeepsWhatEachHas) {
  const Fleet fleet = resized(default_fleet(false), 19);
  EXPECT_EQ(fleet.device_count(), 19U);
  ASSERT_EQ(fleet.nodes.size(), 2U);
  EXPECT_EQ(fleet.nodes[1].devices, 3U);
  EXPECT_EQ(fleet.nodes[1].disk_bytes_per_s, fleet.nodes[0].disk_bytes_per_s / 8 * 3);
}

}  // namespace
}  // namespace thaw::sim
