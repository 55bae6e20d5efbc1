// Models that take several devices of a machine: what their ways cost, and that no policy gives them less, or others' memory.
#include <gtest/gtest.h>

#include <cmath>

#include "sim/bound.h"
#include "sim/experiment.h"
#include "sim/generate.h"
#include "sim/policy.h"
#include "sim/random.h"
#include "sim/world.h"
#include "unit/sim/by_hand.h"

namespace thaw::sim {
namespace {

using base::Seconds;

/// One machine with as many devices, and models that take two of them: 100 bytes in all, 40 of the weights' 80 over each bus.
Fleet pairs(std::uint32_t devices) {
  Fleet fleet = round_fleet(devices, 60, "pair");
  fleet.models.front().devices = 2;
  return fleet;
}

TEST(Gangs, MoveTheirBytesOverAllBusesAtTheSameTime) {
  // From the disk 1 s + 4 s; 301 s after the last one's end from the page cache: 1 s + 40 bytes over each bus.
  const Outcome o = simulate(pairs(2), trace_of({{0, 0}, {200, 0}, {502, 0}}), "ollama");
  EXPECT_EQ(delays(o), (std::vector<double>{5, 0, 1.5}));
  EXPECT_EQ(o.violated, 0U);
}

TEST(Gangs, AreHeldOnAllTheirDevices) {
  const Outcome o = simulate(pairs(3), trace_of({{0, 0}, {9, 0}}), "always-on");
  EXPECT_DOUBLE_EQ(o.used_device_s, 2 * 10);
  EXPECT_NEAR(o.held_device_s, 2 * 10 * 50.0 / 60, 1e-9);
}

TEST(Gangs, WakeAsAWhole) {
  const Outcome o = simulate(pairs(2), trace_of({{0, 0}, {400, 0}}), "thaw-5m");
  EXPECT_EQ(o.violated, 0U);
  EXPECT_EQ(o.wakes, 1U);
  EXPECT_EQ(delays(o)[1], 1.5);
}

/// No policy has more than there is, none loses a request, and all are quiet in the end: gangs of one to four devices, on machines of as many.
TEST(Gangs, GetNoLessAndNoMoreWhateverThePolicy) {
  for (std::uint64_t seed = 1; seed <= 24; ++seed) {
    Random dice(seed);
    Fleet fleet = default_fleet(false);
    fleet.images_ready = seed % 2 == 0;
    NodeShape& node = fleet.nodes.front();
    node.count = 1 + static_cast<std::uint32_t>(dice.uniform() * 3);
    node.devices = 4 + static_cast<std::uint32_t>(dice.uniform() * 4);
    for (ModelClass& kind : fleet.models) kind.devices = 1 + static_cast<std::uint32_t>(dice.uniform() * 4);
    Synthetic synthetic;
    synthetic.requests = 200;
    synthetic.models = 12;
    synthetic.span = Seconds(600);
    synthetic.seed = seed;
    const Trace trace = generate(synthetic);
    for (const PolicyInfo& info : policies()) {
      const auto policy = make_policy(info.name);
      World world(fleet, trace, *policy);
      const Outcome o = world.run();
      ASSERT_EQ(o.violated, 0U) << "seed " << seed << " (" << info.name << "): " << o.violations.front();
      ASSERT_EQ(o.answered + o.refused, trace.requests.size()) << "seed " << seed << " (" << info.name << ")";
      const std::size_t least = info.rival ? 0 : trace.requests.size() / 2;
      ASSERT_GT(o.answered, least) << "seed " << seed << " (" << info.name << ")";
    }
  }
}

TEST(Gangs, NeedAMachineThatHasAsManyDevices) {
  std::string yaml = default_fleet_yaml(false);
  ASSERT_TRUE(parse_fleet(yaml, "f").ok());
  const std::string of = "concurrency: 4, perSequence: 200us";
  yaml.replace(yaml.find(of), of.size(), of + ", devices: 9");
  const auto fleet = parse_fleet(yaml, "f");
  ASSERT_FALSE(fleet.ok());
  EXPECT_NE(fleet.error().message.find("14B: takes 9 devices, and no node has as many"), std::string::npos) << fleet.error().message;
}

}  // namespace
}  // namespace thaw::sim
