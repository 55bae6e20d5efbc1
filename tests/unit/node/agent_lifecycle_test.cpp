#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "base/units.h"
#include "node/limits.h"
#include "node/sandbox/clock.h"
#include "node/sandbox/files.h"
#include "unit/node/agent_harness.h"

namespace thaw::node::test {
namespace {

/// Every test once with sandboxes, made ahead and not, and once without.
struct Way {
  const char* name;
  spec::SandboxKind sandbox;
  std::uint32_t pool;
};

void PrintTo(const Way& way, std::ostream* out) { *out << way.name; }

class AgentLifecycle : public ::testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    if (const std::string why = cannot_sandbox(GetParam().sandbox); !why.empty()) GTEST_SKIP() << why;
    node = std::make_unique<TestNode>(GetParam().sandbox, GetParam().pool);
    const auto opened = node->open();
    ASSERT_TRUE(opened.ok()) << opened.error().message;
  }
  void TearDown() override {
    if (!node) return;
    node->close();
    EXPECT_EQ(traces_of(node->data_dir()), std::vector<std::string>());
    EXPECT_FALSE(std::filesystem::exists("/run/thaw/" + label_of(node->data_dir())));
  }

  std::unique_ptr<TestNode> node;
};

INSTANTIATE_TEST_SUITE_P(Ways, AgentLifecycle,
                         ::testing::Values(Way{"runc", spec::SandboxKind::runc, 0}, Way{"pooled", spec::SandboxKind::runc, 1},
                                           Way{"runsc", spec::SandboxKind::runsc, 0}, Way{"none", spec::SandboxKind::none, 0}),
                         [](const auto& way) { return std::string(way.param.name); });

/// Inodes of all namespaces on the machine.
std::set<std::string> namespaces() {
  std::set<std::string> found;
  std::error_code error;
  for (const auto& process : std::filesystem::directory_iterator("/proc", error))
    for (const auto& link : std::filesystem::directory_iterator(process.path() / "ns", error))
      found.insert(std::filesystem::read_symlink(link.path(), error).string());
  return found;
}

TEST_P(AgentLifecycle, StartsAnswersAndLeavesNothing) {
  const auto instance = node->start_ready();
  const auto ready = node->events().wait<wire::InstanceReady>(instance);
  ASSERT_TRUE(ready);
  EXPECT_NE(http_get(ready->socket_path, "/health").find("200"), std::string::npos);
  const auto usage = node->agent().usage(instance);
  ASSERT_TRUE(usage.ok()) << usage.error().message;
  EXPECT_GT(usage->pid, 0);
  EXPECT_GT(usage->memory_bytes, 0U);
  std::set<std::string> own;
  std::error_code error;
  for (const auto& link : std::filesystem::directory_iterator("/proc/" + std::to_string(usage->pid) + "/ns", error))
    own.insert(std::filesystem::read_symlink(link.path(), error).string());
  for (const auto& link : std::filesystem::directory_iterator("/proc/self/ns")) own.erase(std::filesystem::read_symlink(link.path()).string());
  // gVisor: of the runsc that watches it; the engine itself has no namespaces of the host's kernel at all.
  const std::map<spec::SandboxKind, std::size_t> wanted{
      {spec::SandboxKind::none, 0}, {spec::SandboxKind::runc, 7}, {spec::SandboxKind::runsc, 3}};
  EXPECT_EQ(own.size(), wanted.at(GetParam().sandbox)) << "mnt pid net, ipc uts user cgroup";

  node->stop(instance);
  ASSERT_TRUE(node->events().wait<wire::InstanceGone>(instance));
  EXPECT_FALSE(node->events().has<wire::InstanceDown>(instance));
  EXPECT_NE(::kill(static_cast<pid_t>(usage->pid), 0), 0);
  EXPECT_EQ(http_get(ready->socket_path, "/health"), "");
  EXPECT_FALSE(node->agent().usage(instance).ok());
  const std::set<std::string> left = namespaces();
  for (const std::string& name : own) EXPECT_FALSE(left.contains(name)) << name;
  if (GetParam().pool == 0) {
    EXPECT_EQ(traces_of(node->data_dir()), std::vector<std::string>());
  }
}

TEST_P(AgentLifecycle, ReportsPhasesInOrder) {
  const auto ready = node->events().wait<wire::InstanceReady>(node->start_ready());
  ASSERT_TRUE(ready);
  std::vector<std::string> names;
  base::Duration end{};
  for (const wire::Phase& phase : ready->phases) {
    names.push_back(phase.name);
    EXPECT_GE(phase.start, end);
    end = phase.start + phase.duration;
  }
  EXPECT_EQ(names, (std::vector<std::string>{"sandbox", "mount", "exec", "load"}));
}

TEST_P(AgentLifecycle, ACrashIsReportedWithItsSignal) {
  const auto instance = node->start_ready();
  const auto ready = node->events().wait<wire::InstanceReady>(instance);
  const std::string prompt = R"({"prompt":"fake:crash"})";
  http_send(ready->socket_path, "POST /v1/completions HTTP/1.1\r\nHost: engine\r\nContent-Length: " + std::to_string(prompt.size()) +
                                    "\r\nConnection: close\r\n\r\n" + prompt);
  const auto down = node->events().wait<wire::InstanceDown>(instance);
  ASSERT_TRUE(down);
  EXPECT_EQ(down->reason, wire::DownReason::crashed);
  EXPECT_EQ(down->detail, "signal 6 (Aborted)");
  EXPECT_TRUE(node->events().wait<wire::InstanceGone>(instance));
}

TEST_P(AgentLifecycle, AnEngineThatExitsBeforeItIsReadyFails) {
  const auto command = node->start_command({"--fake-fail-start"});
  node->agent().submit(command);
  const auto down = node->events().wait<wire::InstanceDown>(command.instance);
  ASSERT_TRUE(down);
  EXPECT_EQ(down->reason, wire::DownReason::start_failed);
  EXPECT_NE(down->detail.find("exit status 1"), std::string::npos) << down->detail;
  EXPECT_NE(down->log_tail, "") << "the engine said why";
  EXPECT_TRUE(node->events().wait<wire::InstanceGone>(command.instance));
  auto log = read_small_file(log_path(node->data_dir(), command.model.name));
  ASSERT_TRUE(log.ok()) << log.error().message;
  EXPECT_NE(log->find(down->log_tail), std::string::npos);
}

TEST_P(AgentLifecycle, AnEngineThatDoesNotBecomeReadyTimesOut) {
  auto command = node->start_command({"--fake-hang-start"});
  command.deadline = base::Millis(1500);
  node->agent().submit(command);
  const auto down = node->events().wait<wire::InstanceDown>(command.instance);
  ASSERT_TRUE(down);
  EXPECT_EQ(down->reason, wire::DownReason::start_timeout);
  EXPECT_TRUE(node->events().wait<wire::InstanceGone>(command.instance));
}

TEST_P(AgentLifecycle, AStopDuringAStartEndsItAtOnce) {
  const auto command = node->start_command({"--fake-hang-start"});
  node->agent().submit(command);
  ASSERT_TRUE(eventually([&] { return node->agent().usage(command.instance).ok(); }));
  node->stop(command.instance, base::Seconds(3600));
  ASSERT_TRUE(node->events().wait<wire::InstanceGone>(command.instance));
  EXPECT_FALSE(node->events().has<wire::InstanceDown>(command.instance));
  EXPECT_FALSE(node->events().has<wire::InstanceReady>(command.instance));
}

TEST_P(AgentLifecycle, AStopBeforeTheStartBeganIsGoneAtOnce) {
  const auto command = node->start_command();
  node->agent().submit(command);
  node->stop(command.instance);
  EXPECT_TRUE(node->events().wait<wire::InstanceGone>(command.instance));
}

TEST_P(AgentLifecycle, AnEngineThatIgnoresSigtermIsKilledAfterTheGrace) {
  const auto instance = node->start_ready({"--fake-ignore-sigterm"});
  const auto begun = now();
  node->stop(instance, base::Millis(300));
  ASSERT_TRUE(node->events().wait<wire::InstanceGone>(instance));
  // runsc hands no signal on: its end is the engine's, at once.
  if (GetParam().sandbox != spec::SandboxKind::runsc) {
    EXPECT_GE(now() - begun, base::Millis(300));
  }
}

TEST_P(AgentLifecycle, AnUnknownInstanceIsGone) {
  node->stop(base::InstanceId(4711));
  EXPECT_TRUE(node->events().wait<wire::InstanceGone>(base::InstanceId(4711)));
}

TEST_P(AgentLifecycle, TheSameInstanceTwiceIsRefused) {
  const auto command = node->start_command();
  node->agent().submit(command);
  node->agent().submit(command);
  const auto down = node->events().wait<wire::InstanceDown>(command.instance);
  ASSERT_TRUE(down);
  EXPECT_EQ(down->reason, wire::DownReason::start_failed);
  EXPECT_TRUE(node->events().wait<wire::InstanceReady>(command.instance)) << "the first is not disturbed";
}

TEST_P(AgentLifecycle, AMissingEngineAndAMissingModelAreNamed) {
  auto command = node->start_command();
  command.model.engine_path = "/nowhere/engine";
  node->agent().submit(command);
  auto down = node->events().wait<wire::InstanceDown>(command.instance);
  ASSERT_TRUE(down);
  EXPECT_NE(down->detail.find("/nowhere/engine"), std::string::npos) << down->detail;
  EXPECT_TRUE(node->events().wait<wire::InstanceGone>(command.instance));

  command = node->start_command();
  command.model.source.path = "/nowhere/model.gguf";
  node->agent().submit(command);
  down = node->events().wait<wire::InstanceDown>(command.instance);
  ASSERT_TRUE(down);
  EXPECT_NE(down->detail.find("/nowhere/model.gguf"), std::string::npos) << down->detail;
  EXPECT_TRUE(node->events().wait<wire::InstanceGone>(command.instance));
}

TEST_P(AgentLifecycle, MoreThanItsMemoryKillsAndSaysSo) {
  auto command = node->start_command({"--fake-alloc-mib", "400"});
  command.model.resources.device_memory_bytes = 32ULL << 20;
  command.model.resources.host_memory_bytes = 32ULL << 20;
  node->agent().submit(command);
  const auto down = node->events().wait<wire::InstanceDown>(command.instance);
  ASSERT_TRUE(down);
  EXPECT_EQ(down->reason, wire::DownReason::out_of_memory) << down->detail;
  EXPECT_NE(down->detail.find(base::format_bytes(limits_for(command.model, GetParam().sandbox).memory_bytes)), std::string::npos) << down->detail;
  EXPECT_TRUE(node->events().wait<wire::InstanceGone>(command.instance));
}

TEST_P(AgentLifecycle, ClosingStopsWhatRuns) {
  const auto ready = node->start_ready();
  const auto starting = node->start_command({"--fake-hang-start"});
  node->agent().submit(starting);
  node->close();
  EXPECT_TRUE(node->events().has<wire::InstanceGone>(ready));
  EXPECT_TRUE(node->events().has<wire::InstanceGone>(starting.instance));
}

TEST_P(AgentLifecycle, AStartThatWaitsPastItsDeadlineTimesOut) {
  // As many starts as may run at once, none of which ends.
  for (std::uint32_t i = 0; i < node->config().settings.max_concurrent_starts; ++i) node->agent().submit(node->start_command({"--fake-hang-start"}));
  auto waiting = node->start_command();
  waiting.deadline = base::Millis(200);
  node->agent().submit(waiting);
  const auto down = node->events().wait<wire::InstanceDown>(waiting.instance);
  ASSERT_TRUE(down);
  EXPECT_EQ(down->reason, wire::DownReason::start_timeout);
  EXPECT_NE(down->detail.find("maxConcurrentStarts"), std::string::npos) << down->detail;
  EXPECT_TRUE(node->events().wait<wire::InstanceGone>(waiting.instance));
}

TEST_P(AgentLifecycle, SeveralAtOnceShareNothing) {
  constexpr int kInstances = 4;
  std::vector<base::InstanceId> instances;
  for (int i = 0; i < kInstances; ++i) {
    const auto command = node->start_command();
    instances.push_back(command.instance);
    node->agent().submit(command);
  }
  std::set<std::string> sockets;
  for (const auto instance : instances) {
    const auto ready = node->events().wait<wire::InstanceReady>(instance);
    ASSERT_TRUE(ready);
    sockets.insert(ready->socket_path);
  }
  EXPECT_EQ(sockets.size(), instances.size());
  for (const auto instance : instances) node->stop(instance);
  for (const auto instance : instances) EXPECT_TRUE(node->events().wait<wire::InstanceGone>(instance));
}

}  // namespace
}  // namespace thaw::node::test
