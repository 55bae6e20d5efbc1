/// Standby through the agent: real sandboxes and control groups, the fake engine inside, and what goes wrong at every
/// stage.
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include <array>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "node/sandbox/cgroup.h"
#include "node/sandbox/clock.h"
#include "node/sandbox/files.h"
#include "unit/node/agent_harness.h"
#include "unit/node/tier_rig.h"

namespace thaw::node::test {
namespace {

constexpr std::uint64_t kMiB = 1ULL << 20;

class Standby : public ::testing::TestWithParam<spec::SandboxKind> {
 protected:
  void SetUp() override {
    if (const std::string why = cannot_sandbox(); !why.empty()) GTEST_SKIP() << why;
    const auto opened = node.open();
    ASSERT_TRUE(opened.ok()) << opened.error().message;
  }

  base::InstanceId ready(std::vector<std::string> args = {}) {
    args.insert(args.end(), {"--fake-map-model", "--fake-alloc-mib", "16"});
    return node.start_ready(std::move(args));
  }
  void freeze(base::InstanceId instance, base::Duration deadline = kPatience) {
    node.agent().submit(wire::FreezeInstance{instance, deadline});
  }
  void wake(base::InstanceId instance, base::Duration deadline = kPatience) {
    node.agent().submit(wire::WakeInstance{instance, deadline});
  }
  base::InstanceId frozen() {
    const base::InstanceId instance = ready();
    freeze(instance);
    EXPECT_TRUE(node.events().wait<wire::InstanceStandby>(instance)) << reason(instance);
    return instance;
  }
  std::string reason(base::InstanceId instance) {
    if (const auto failed = node.events().wait<wire::FreezeFailed>(instance)) return failed->reason;
    const auto down = node.events().wait<wire::InstanceDown>(instance);
    return down ? down->detail : "no event";
  }
  pid_t pid_of(base::InstanceId instance) { return static_cast<pid_t>(node.agent().usage(instance)->pid); }
  std::string answer(base::InstanceId instance, int which = 1) {
    const auto ready = node.events().wait<wire::InstanceReady>(instance, which);
    return ready ? body_of(http_post(ready->socket_path, "/v1/completions",
                                     R"({"prompt":"Once upon a time","max_tokens":8})"))
                 : "";
  }
  void expect_gone(base::InstanceId instance) {
    EXPECT_TRUE(node.events().wait<wire::InstanceGone>(instance));
    EXPECT_EQ(sandboxed_pids(node.data_dir()), std::vector<pid_t>());
  }

  TestNode node{GetParam()};
};

INSTANTIATE_TEST_SUITE_P(Kinds, Standby, ::testing::Values(spec::SandboxKind::runc, spec::SandboxKind::none),
                         [](const auto& kind) {
                           return std::string(kind.param == spec::SandboxKind::runc ? "runc" : "none");
                         });

/// All processes of the data directory's groups stand still.
bool all_frozen(const std::string& data_dir) {
  const auto host = CgroupHost::detect();
  const std::string label = label_of(std::filesystem::canonical(data_dir).string());
  for (const std::string& name : (*host)->children(label))
    if (!Freezer::of(**host, (*host)->parent_path(label) + "/" + name).frozen().value_or(false)) return false;
  return true;
}

TEST_P(Standby, FreezesAndWakesAndAnswersAsBefore) {
  const base::InstanceId instance = ready();
  const auto started = node.events().wait<wire::InstanceReady>(instance);
  EXPECT_EQ(started->way, wire::Way::start);
  ASSERT_TRUE(started->can_freeze);
  const std::string said = answer(instance);
  ASSERT_FALSE(said.empty());
  for (int round = 1; round <= 2; ++round) {
    freeze(instance);
    const auto rests = node.events().wait<wire::InstanceStandby>(instance, round);
    ASSERT_TRUE(rests) << reason(instance);
    EXPECT_TRUE(all_frozen(node.data_dir()));
    EXPECT_EQ(rests->driver, wire::DriverKind::freezer);
    EXPECT_EQ(rests->held_host_bytes, 0U) << "a CPU's memory is its device's";
    EXPECT_GE(rests->held_device_bytes, 16 * kMiB) << "what is not mapped stays";
    EXPECT_LT(rests->held_device_bytes, 32 * kMiB);
    EXPECT_FALSE(rests->phases.empty());
    wake(instance);
    const auto woken = node.events().wait<wire::InstanceReady>(instance, round + 1);
    ASSERT_TRUE(woken) << reason(instance);
    EXPECT_EQ(woken->way, wire::Way::wake);
    EXPECT_TRUE(woken->can_freeze);
    EXPECT_EQ(answer(instance, round + 1), said);
  }
  node.stop(instance);
  expect_gone(instance);
  EXPECT_FALSE(node.events().has<wire::InstanceDown>(instance));
}

TEST_P(Standby, AStopInStandbyLeavesNothing) {
  const base::InstanceId instance = frozen();
  const base::TimePoint begun = now();
  node.stop(instance, base::Seconds(30));
  expect_gone(instance);
  EXPECT_LT(now() - begun, base::Seconds(30)) << "a frozen process hears no SIGTERM: it is not waited for";
  EXPECT_FALSE(node.events().has<wire::InstanceDown>(instance));
  EXPECT_EQ(traces_of(node.data_dir()), std::vector<std::string>());
}

TEST_P(Standby, AStopInTheMiddleOfATransitionLeavesNothing) {
  for (int i = 0; i < 3; ++i) {
    const base::InstanceId freezing = ready();
    freeze(freezing);
    node.stop(freezing);
    expect_gone(freezing);
    const base::InstanceId waking = frozen();
    wake(waking);
    node.stop(waking);
    expect_gone(waking);
    EXPECT_FALSE(node.events().has<wire::InstanceDown>(waking));
  }
}

TEST_P(Standby, ACrashInStandbyIsTold) {
  const base::InstanceId instance = frozen();
  ASSERT_EQ(::kill(pid_of(instance), SIGKILL), 0);
  const auto host = CgroupHost::detect();
  const std::string label = label_of(std::filesystem::canonical(node.data_dir()).string());
  const bool v1 = Freezer::find(**host, label) != Freezer::Kind::v2;
  if (v1) wake(instance);  // only then does the signal arrive
  const auto down = node.events().wait<wire::InstanceDown>(instance);
  ASSERT_TRUE(down);
  EXPECT_EQ(down->reason, v1 ? wire::DownReason::wake_failed : wire::DownReason::crashed);
  EXPECT_NE(down->detail.find("signal 9"), std::string::npos) << down->detail;
  expect_gone(instance);
}

TEST_P(Standby, ACrashInTheMiddleOfATransitionIsTold) {
  const base::InstanceId freezing = ready();
  ASSERT_EQ(::kill(pid_of(freezing), SIGKILL), 0);
  freeze(freezing);
  ASSERT_TRUE((node.events().wait_any<wire::InstanceDown, wire::InstanceStandby>(freezing)));
  // cgroup v1 can freeze a process between its SIGKILL and its death, which then comes when it is woken.
  if (!node.events().has<wire::InstanceDown>(freezing)) wake(freezing);
  ASSERT_TRUE(node.events().wait<wire::InstanceDown>(freezing));
  expect_gone(freezing);
  const base::InstanceId waking = frozen();
  const pid_t pid = pid_of(waking);
  wake(waking);
  ASSERT_EQ(::kill(pid, SIGKILL), 0);
  ASSERT_TRUE(node.events().wait<wire::InstanceDown>(waking));
  expect_gone(waking);
}

TEST_P(Standby, AFreezeWithoutTimeLeavesItReady) {
  const base::InstanceId instance = ready();
  freeze(instance, base::Duration::zero());
  const auto failed = node.events().wait<wire::FreezeFailed>(instance);
  ASSERT_TRUE(failed);
  EXPECT_TRUE(failed->still_ready);
  EXPECT_FALSE(answer(instance).empty());
  freeze(instance);
  EXPECT_TRUE(node.events().wait<wire::InstanceStandby>(instance));
}

TEST_P(Standby, AWakeWithoutTimeEndsIt) {
  const base::InstanceId instance = frozen();
  wake(instance, base::Duration::zero());
  const auto down = node.events().wait<wire::InstanceDown>(instance);
  ASSERT_TRUE(down);
  EXPECT_EQ(down->reason, wire::DownReason::wake_failed);
  expect_gone(instance);
}

TEST_P(Standby, WhatIsNotThereIsAnswered) {
  const base::InstanceId nobody(77);
  freeze(nobody);
  const auto failed = node.events().wait<wire::FreezeFailed>(nobody);
  ASSERT_TRUE(failed);
  EXPECT_FALSE(failed->still_ready);
  EXPECT_TRUE(node.events().wait<wire::InstanceGone>(nobody));
  const base::InstanceId nobody_either(78);
  wake(nobody_either);
  ASSERT_TRUE(node.events().wait<wire::InstanceDown>(nobody_either));
  EXPECT_TRUE(node.events().wait<wire::InstanceGone>(nobody_either));
}

TEST_P(Standby, CommandsThatDoNotFitEndTheInstance) {
  const base::InstanceId twice = frozen();
  freeze(twice);
  const auto failed = node.events().wait<wire::FreezeFailed>(twice);
  ASSERT_TRUE(failed);
  EXPECT_FALSE(failed->still_ready);
  ASSERT_TRUE(node.events().wait<wire::InstanceDown>(twice));
  expect_gone(twice);
  const base::InstanceId awake = ready();
  wake(awake);
  ASSERT_TRUE(node.events().wait<wire::InstanceDown>(awake));
  expect_gone(awake);
}

TEST_P(Standby, ShuttingDownLeavesNothing) {
  frozen();
  const base::InstanceId second = ready();
  freeze(second);
  node.close();
  EXPECT_EQ(traces_of(node.data_dir()), std::vector<std::string>());
}

std::string read_line(int fd) {
  std::string line;
  for (char c = 0; ::read(fd, &c, 1) == 1 && c != '\n';) line += c;
  return line;
}

TEST_P(Standby, AfterAKillTheFrozenAreGoneAndTheNextOpenCleansUp) {
  node.close();
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  Fd from_child(ends[0]);
  Fd to_parent(ends[1]);
  const pid_t child = ::fork();
  if (child == 0) {
    if (!node.open().ok()) ::_exit(2);
    frozen();
    if (::write(to_parent.get(), "frozen\n", 7) != 7) ::_exit(4);
    for (;;) ::pause();
  }
  to_parent.reset();
  ASSERT_EQ(read_line(from_child.get()), "frozen");
  ASSERT_FALSE(sandboxed_pids(node.data_dir()).empty());
  ASSERT_EQ(::kill(child, SIGKILL), 0);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  const auto host = CgroupHost::detect();
  if (Freezer::find(**host, label_of(std::filesystem::canonical(node.data_dir()).string())) == Freezer::Kind::v2) {
    EXPECT_TRUE(eventually([&] { return sandboxed_pids(node.data_dir()).empty(); })) << "the frozen die with the node";
  }
  const auto opened = node.open();
  ASSERT_TRUE(opened.ok()) << opened.error().message;
  EXPECT_EQ(traces_of(node.data_dir()), std::vector<std::string>());
  EXPECT_FALSE(answer(node.start_ready()).empty());
}

/// What a host without cgroup v2 may have left: a process that takes its SIGKILL only when it is thawed.
TEST_P(Standby, LeftoversThatAV1FreezerHoldsAreRemoved) {
  node.close();
  const TempDir directory;
  std::istringstream lines(read_small_file("/proc/self/mountinfo").value_or(""));
  std::ofstream table(directory.path() + "/mountinfo");
  for (std::string line; std::getline(lines, line);)
    if (line.find(" - cgroup2 ") == std::string::npos) table << line << '\n';
  table.close();
  const auto v1 = CgroupHost::detect(directory.path() + "/mountinfo");
  if (!v1.ok()) GTEST_SKIP() << "no v1 controllers here";
  const std::string label = label_of(std::filesystem::canonical(node.data_dir()).string());
  const Cgroup group(*v1, (*v1)->parent_path(label) + "/b99");
  ASSERT_TRUE(group.create().ok());
  const pid_t sleeper = ::fork();
  if (sleeper == 0)
    for (;;) ::pause();
  ASSERT_TRUE(group.add(sleeper).ok());
  if (!group.join_freezer(sleeper).ok()) {
    ::kill(sleeper, SIGKILL);
    ::waitpid(sleeper, nullptr, 0);
    GTEST_SKIP() << "no v1 freezer here";
  }
  ASSERT_EQ(group.freezer().kind(), Freezer::Kind::v1);
  ASSERT_TRUE(group.freezer().freeze(now() + kPatience, {}).ok());
  ASSERT_EQ(::kill(sleeper, SIGKILL), 0);
  EXPECT_EQ(::waitpid(sleeper, nullptr, WNOHANG), 0) << "frozen, it cannot die";
  std::thread reaper([sleeper] { ::waitpid(sleeper, nullptr, 0); });  // it is a child of this process, not of the agent
  const auto opened = node.open();
  EXPECT_TRUE(opened.ok()) << opened.error().message;
  reaper.join();
  EXPECT_FALSE(group.exists());
}

}  // namespace
}  // namespace thaw::node::test
