#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "node/cpu/cores.h"
#include "node/cpu/turns.h"
#include "unit/node/fake_cgroup_host.h"

namespace thaw::node::test {
namespace {

constexpr std::uint64_t kGB = 1'000'000'000;
constexpr unsigned kProcessors = 2;

CpuClaim fresh(std::uint64_t weights_bytes) {
  return {.weights_bytes = weights_bytes, .threads = kProcessors, .age = base::Millis(100)};
}
/// One that has served for long.
CpuClaim settled(std::uint64_t last_turn) {
  return {.weights_bytes = kGB,
          .threads = kProcessors,
          .used = base::Seconds(100),
          .age = base::Seconds(1000),
          .last_turn = last_turn};
}
CpuClaim idle() {
  CpuClaim claim = settled(0);
  claim.idle_for = base::Seconds(3);
  return claim;
}
std::vector<unsigned> ranks(const std::vector<CpuClaim>& claims, std::uint64_t turn = 1) {
  return plan_cpu_turns(claims, kProcessors, turn).ranks;
}

using Ranks = std::vector<unsigned>;

TEST(CpuTurnsPlan, OneAloneAndThoseThatFitBesideEachOtherAreLeftAlone) {
  EXPECT_FALSE(plan_cpu_turns({}, kProcessors, 1).contended);
  EXPECT_FALSE(plan_cpu_turns({fresh(kGB)}, kProcessors, 1).contended);
  EXPECT_FALSE(plan_cpu_turns({fresh(kGB), idle(), idle()}, kProcessors, 1).contended);
  CpuClaim half = settled(0);
  half.threads = 1;
  const CpuPlan plan = plan_cpu_turns({half, half}, kProcessors, 1);
  EXPECT_FALSE(plan.contended);
  EXPECT_EQ(plan.cpu_weights, (std::vector<unsigned>{kUsualCpuWeight, kUsualCpuWeight}));
}

TEST(CpuTurnsPlan, TheSmallestFreshModelComesFirst) {
  EXPECT_EQ(ranks({fresh(3 * kGB), fresh(kGB), fresh(2 * kGB)}), (Ranks{2, 0, 1}));
  const CpuPlan plan = plan_cpu_turns({fresh(2 * kGB), fresh(kGB)}, kProcessors, 1);
  EXPECT_TRUE(plan.contended);
  EXPECT_GE(plan.cpu_weights[1], 8 * plan.cpu_weights[0]);
}

TEST(CpuTurnsPlan, WhoseWeightsAreThereComesBeforeWhoWouldSpin) {
  CpuClaim waiting = fresh(kGB);
  waiting.waits_for_weights = true;
  EXPECT_EQ(ranks({waiting, fresh(2 * kGB)}), (Ranks{1, 0}));
}

TEST(CpuTurnsPlan, FreshComesBeforeSettledButForEveryFourthTurn) {
  for (std::uint64_t turn = 1; turn <= 8; ++turn)
    EXPECT_EQ(ranks({settled(1), fresh(kGB)}, turn), (turn % 4 == 0 ? Ranks{0, 1} : Ranks{1, 0})) << turn;
}

TEST(CpuTurnsPlan, FreshEndsByAgeAndByUse) {
  CpuClaim old = fresh(kGB);
  old.age = base::Seconds(11);
  EXPECT_EQ(ranks({old, fresh(2 * kGB)}), (Ranks{1, 0}));
  CpuClaim busy = fresh(kGB);
  busy.used = base::Millis(3400);
  EXPECT_EQ(ranks({busy, fresh(2 * kGB)}), (Ranks{1, 0}));
}

TEST(CpuTurnsPlan, SettledOnesGoRound) {
  std::vector<CpuClaim> claims{settled(0), settled(0), settled(0)};
  std::vector<unsigned> turns(claims.size(), 0);
  for (std::uint64_t turn = 1; turn <= 30; ++turn) {
    const Ranks order = ranks(claims, turn);
    const auto first = static_cast<std::size_t>(std::find(order.begin(), order.end(), 0U) - order.begin());
    claims[first].last_turn = turn;
    ++turns[first];
  }
  EXPECT_EQ(turns, (std::vector<unsigned>{10, 10, 10}));
}

TEST(CpuTurnsPlan, AnIdleOneComesSecondAndOneHeldBackIsNotTakenForIdle) {
  EXPECT_EQ(ranks({settled(5), settled(4), idle()}), (Ranks{1, 0, 1}));
  CpuClaim starved = settled(3);
  starved.idle_for = base::Millis(500);
  starved.held_back = true;
  EXPECT_EQ(ranks({settled(5), settled(4), starved}), (Ranks{2, 1, 0}));
}

TEST(CpuTurnsPlan, AsManyAreFirstAsHaveProcessorsForAllTheirThreads) {
  std::vector<CpuClaim> claims(5, settled(0));
  for (CpuClaim& claim : claims) claim.threads = 2;
  EXPECT_EQ(plan_cpu_turns(claims, 4, 1).ranks, (Ranks{0, 0, 1, 1, 2}));
}

TEST(CpuTurnsPlan, ManyHaveWeightsThatTheKernelTakes) {
  const CpuPlan plan = plan_cpu_turns(std::vector<CpuClaim>(200, settled(0)), kProcessors, 1);
  for (const unsigned weight : plan.cpu_weights) {
    EXPECT_GE(weight, 1U);
    EXPECT_LE(weight, 10'000U);
  }
}

/// Two groups of a host that is plain files.
class CpuTurnsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    add_v1(fake_);
    for (const char* name : {"a", "b"}) {
      fake_.add(std::string("/cpu,cpuacct/thaw/") + name + "/cpu.shares", "1024");
      fake_.add(std::string("/cpu,cpuacct/thaw/") + name + "/cpuacct.usage", "0");
    }
    auto host = fake_.detect();
    ASSERT_TRUE(host.ok()) << host.error().message;
    host_ = *host;
  }
  [[nodiscard]] Cgroup group(const std::string& name) const { return {host_, "/thaw/" + name}; }
  [[nodiscard]] std::string shares(const std::string& name) const {
    return fake_.text("/cpu,cpuacct/thaw/" + name + "/cpu.shares");
  }

  FakeHost fake_;
  std::shared_ptr<const CgroupHost> host_;
};

TEST_F(CpuTurnsTest, TheGroupsOfThoseThatCompeteAreSetAndSetBack) {
  CpuTurns turns(kProcessors);
  turns.add(base::InstanceId(1), "a", group("a"), 2 * kGB, kProcessors, true);
  turns.add(base::InstanceId(2), "b", group("b"), kGB, kProcessors, true);
  ASSERT_TRUE(eventually([&] { return shares("b") == "102400" && shares("a") == "12800"; }))
      << shares("a") << " " << shares("b");
  turns.remove(base::InstanceId(2));
  EXPECT_TRUE(eventually([&] { return shares("a") == "1024"; })) << shares("a");
  turns.remove(base::InstanceId(2));
  turns.weights_there(base::InstanceId(7));
}

TEST_F(CpuTurnsTest, WhoUsesNothingNoLongerCompetes) {
  CpuTurns turns(kProcessors);
  turns.add(base::InstanceId(1), "a", group("a"), 2 * kGB, kProcessors, true);
  turns.add(base::InstanceId(2), "b", group("b"), kGB, kProcessors, true);
  ASSERT_TRUE(eventually([&] { return shares("b") == "102400"; }));
  EXPECT_TRUE(eventually([&] { return shares("a") == "1024" && shares("b") == "1024"; }))
      << "neither is seen to use any";
}

TEST(CpuCores, OneProcessorOfEachCoreThatIsAllowed) {
  const std::vector<unsigned> here = processor_of_each_core();
  cpu_set_t allowed;
  ASSERT_EQ(::sched_getaffinity(0, sizeof(allowed), &allowed), 0);
  for (const unsigned processor : here) EXPECT_TRUE(CPU_ISSET(processor, &allowed));

  TempDir host;
  const auto core_of = [&](unsigned cpu, const std::string& siblings) {
    const std::filesystem::path directory = host.path() + "/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology";
    std::filesystem::create_directories(directory);
    std::ofstream(directory / "thread_siblings_list") << siblings << "\n";
  };
  for (unsigned cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &allowed)) core_of(cpu, "all of one");
  const std::string cpus = host.path() + "/devices/system/cpu";
  EXPECT_EQ(processor_of_each_core(cpus).size(), 1U);
  std::filesystem::create_directories(host.path() + "/devices/cpu_atom");
  std::ofstream(host.path() + "/devices/cpu_atom/cpus") << "8-11\n";
  EXPECT_TRUE(processor_of_each_core(cpus).empty()) << "not all alike";
}

TEST(CpuCores, AMaskIsHexadecimal) {
  EXPECT_EQ(cpu_mask({0, 1}), "3");
  EXPECT_EQ(cpu_mask({0, 2, 4, 6}), "55");
  EXPECT_EQ(cpu_mask({5, 64}), "10000000000000020");
  EXPECT_EQ(cpu_mask({}), "0");
}

}  // namespace
}  // namespace thaw::node::test
