#include "node/cpu/yielding.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "node/cpu/turns.h"
#include "unit/node/fake_cgroup_host.h"

namespace thaw::node::test {
namespace {

constexpr auto kWindow = base::Millis(200);
constexpr unsigned kProcessors = 2;
constexpr std::uint64_t kGB = 1'000'000'000;

CpuSeen seen(int second, base::Millis held_up, bool processors_wanted = false) {
  return {.at = base::TimePoint(base::Seconds(second)),
          .since_last = kWindow,
          .held_up = held_up,
          .processors_wanted = processors_wanted};
}

TEST(CpuYielding, WhoRunsIntoItsLimitGivesWayForSeconds) {
  Yielding one;
  EXPECT_FALSE(one.look(seen(1, base::Millis(0))));
  EXPECT_TRUE(one.look(seen(2, base::Millis(150))));
  EXPECT_TRUE(one.look(seen(3, base::Millis(0)))) << "between two bombs";
  EXPECT_TRUE(one.look(seen(5, base::Millis(0))));
  EXPECT_TRUE(one.look(seen(6, base::Millis(50)))) << "again";
  EXPECT_TRUE(one.look(seen(10, base::Millis(0))));
  EXPECT_FALSE(one.look(seen(11, base::Millis(0))));
}

TEST(CpuYielding, WhoIsHeldUpForMomentsDoesNot) {
  Yielding one;
  for (int second = 1; second < 10; ++second) EXPECT_FALSE(one.look(seen(second, base::Millis(49), true)));
}

TEST(CpuYielding, WhoGetsLessThanItsLimitBecauseOthersTakeAllIsNotStarved) {
  Yielding one;
  EXPECT_TRUE(one.look(seen(1, base::Millis(150), true))) << "it had all that it may have";
  EXPECT_FALSE(one.look(seen(2, base::Millis(10), true)));
  EXPECT_TRUE(one.look(seen(3, base::Millis(150), true)));
}

TEST(CpuYielding, WhoYieldsCompetesWithNobody) {
  CpuClaim busy{.weights_bytes = kGB, .threads = kProcessors, .used = base::Seconds(100), .age = base::Seconds(1000)};
  CpuClaim hog = busy;
  EXPECT_TRUE(plan_cpu_turns({busy, hog}, kProcessors, 1).contended);
  hog.yields = true;
  EXPECT_FALSE(plan_cpu_turns({busy, hog}, kProcessors, 1).contended);
}

/// A group of a host that is plain files, beside another: one is held up by its limit.
class CpuYieldingTest : public ::testing::Test {
 protected:
  void begin(bool unified) {
    if (unified)
      fake_.mount_v2("", "cpu memory pids io");
    else
      add_v1(fake_);
    place_ = unified ? "/thaw/" : "/cpu,cpuacct/thaw/";
    for (const char* name : {"hog", "other"}) {
      fake_.add(place_ + name + "/cpu.idle", "0");
      fake_.add(place_ + name + "/cpu.stat",
                unified ? "usage_usec 0\nthrottled_usec 0\n" : "nr_throttled 0\nthrottled_time 0\n");
      fake_.add(place_ + name + "/cpuacct.usage", "0");
    }
    auto host = fake_.detect();
    ASSERT_TRUE(host.ok()) << host.error().message;
    host_ = *host;
    turns_ = std::make_unique<CpuTurns>(kProcessors);
    for (const char* name : {"hog", "other"})
      turns_->add(base::InstanceId(static_cast<std::uint64_t>(*name)), name,
                  Cgroup(host_, std::string("/thaw/") + name), kGB, 1, true);
    fake_.add(place_ + "hog/cpu.stat",
              unified ? "usage_usec 1\nthrottled_usec 9000000000\n" : "nr_throttled 7\nthrottled_time 9000000000000\n");
  }
  [[nodiscard]] std::string idle(const std::string& name) const { return fake_.text(place_ + name + "/cpu.idle"); }

  FakeHost fake_;
  std::string place_;
  std::shared_ptr<const CgroupHost> host_;
  std::unique_ptr<CpuTurns> turns_;
};

TEST_F(CpuYieldingTest, TheGroupGetsTheIdleClassAndLosesIt) {
  begin(false);
  ASSERT_TRUE(eventually([&] { return idle("hog") == "1"; })) << idle("hog");
  EXPECT_EQ(idle("other"), "0");
  turns_->remove(base::InstanceId('h'));
  EXPECT_EQ(idle("hog"), "0") << "it may only rest, and come back";
  turns_->add(base::InstanceId(7), "hog", Cgroup(host_, "/thaw/hog"), kGB, 1, true);
  EXPECT_EQ(idle("hog"), "1") << "the same model, a moment later";
}

TEST_F(CpuYieldingTest, OnVersion2Too) {
  begin(true);
  ASSERT_TRUE(eventually([&] { return idle("hog") == "1"; })) << idle("hog");
  EXPECT_EQ(idle("other"), "0");
}

}  // namespace
}  // namespace thaw::node::test
