#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include <array>
#include <csignal>
#include <filesystem>
#include <fstream>

#include "node/sandbox/cgroup.h"
#include "node/sandbox/fd.h"
#include "node/sandbox/files.h"
#include "unit/node/agent_harness.h"

namespace thaw::node::test {
namespace {

/// An agent in a process of its own, to be killed. The child never returns; it writes the socket's path once its instance is ready.
pid_t fork_agent(TestNode& node, int ready_fd) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  if (!node.open().ok()) ::_exit(2);
  const auto command = node.start_command();
  node.agent().submit(command);
  const auto ready = node.events().wait<wire::InstanceReady>(command.instance);
  if (!ready) ::_exit(3);
  const std::string line = ready->socket_path + "\n";
  if (::write(ready_fd, line.data(), line.size()) < 0) ::_exit(4);
  for (;;) ::pause();
}

std::string read_line(int fd) {
  std::string line;
  for (char c = 0; ::read(fd, &c, 1) == 1 && c != '\n';) line += c;
  return line;
}

class Recovery : public ::testing::TestWithParam<spec::SandboxKind> {
 protected:
  void SetUp() override {
    if (const std::string why = cannot_sandbox(GetParam()); !why.empty()) GTEST_SKIP() << why;
  }
};

INSTANTIATE_TEST_SUITE_P(Kinds, Recovery, ::testing::Values(spec::SandboxKind::runc, spec::SandboxKind::runsc, spec::SandboxKind::none),
                         [](const auto& kind) { return std::string(to_string(kind.param)); });

TEST_P(Recovery, AfterAKillNothingRunsAndTheNextOpenCleansUp) {
  TestNode node(GetParam(), GetParam() == spec::SandboxKind::runc ? 1 : 0);
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  Fd from_child(ends[0]);
  Fd to_parent(ends[1]);
  const pid_t child = fork_agent(node, to_parent.get());
  to_parent.reset();
  const std::string socket_path = read_line(from_child.get());
  ASSERT_FALSE(socket_path.empty()) << "the agent in the child did not get its instance ready";
  ASSERT_FALSE(sandboxed_pids(node.data_dir()).empty());

  ASSERT_EQ(::kill(child, SIGKILL), 0);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  EXPECT_TRUE(eventually([&] { return sandboxed_pids(node.data_dir()).empty(); })) << "engines and empty sandboxes die with the node";
  EXPECT_FALSE(traces_of(node.data_dir()).empty()) << "there is something to clean up";

  node.config().settings.pool = 0;
  const auto opened = node.open();
  ASSERT_TRUE(opened.ok()) << opened.error().message;
  EXPECT_EQ(traces_of(node.data_dir()), std::vector<std::string>());
  EXPECT_EQ(http_get(socket_path, "/health"), "");
  node.start_ready();
  node.close();
  EXPECT_EQ(traces_of(node.data_dir()), std::vector<std::string>());
}

TEST_P(Recovery, ProcessesThatSurvivedAreKilledByTheNextOpen) {
  TestNode node(GetParam());
  ASSERT_TRUE(node.open().ok());
  const auto instance = node.start_ready();
  const auto survivor = static_cast<pid_t>(node.agent().usage(instance)->pid);
  // A process of an earlier life that did not die with it: in a group of ours, child of somebody else.
  const std::string home = "/run/thaw/" + label_of(std::filesystem::canonical(node.data_dir()).string());
  const auto host = CgroupHost::detect();
  ASSERT_TRUE(host.ok());
  const Cgroup stray(*host, (*host)->parent_path(label_of(std::filesystem::canonical(node.data_dir()).string())) + "/b99");
  node.stop(instance);
  ASSERT_TRUE(node.events().wait<wire::InstanceGone>(instance));
  node.close();
  EXPECT_NE(::kill(survivor, 0), 0);

  ASSERT_TRUE((*host)->prepare_parent(label_of(std::filesystem::canonical(node.data_dir()).string())).ok());
  ASSERT_TRUE(stray.create().ok());
  const pid_t sleeper = ::fork();
  if (sleeper == 0)
    for (;;) ::pause();
  ASSERT_TRUE(stray.add(sleeper).ok());
  ASSERT_TRUE(make_directories(home + "/boxes/b99", 0755).ok());

  ASSERT_TRUE(node.open().ok());
  int status = 0;
  ASSERT_EQ(::waitpid(sleeper, &status, 0), sleeper);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  EXPECT_FALSE(stray.exists());
  EXPECT_FALSE(std::filesystem::exists(home + "/boxes/b99"));
}

TEST_P(Recovery, TwoServersCannotShareADataDirectory) {
  TestNode first(GetParam());
  ASSERT_TRUE(first.open().ok());
  TestNode second(GetParam());
  second.config().data_dir = first.data_dir() + "/../data";
  const auto opened = second.open();
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().kind, base::ErrorKind::conflict);
  EXPECT_NE(opened.error().message.find("pid " + std::to_string(::getpid())), std::string::npos) << opened.error().message;
  EXPECT_NE(opened.error().message.find("--data-dir"), std::string::npos) << opened.error().message;
  first.start_ready();
}

TEST(AgentOpen, WithoutThawInitItSaysWhereItBelongs) {
  if (const std::string why = cannot_sandbox(); !why.empty()) GTEST_SKIP() << why;
  TestNode node;
  node.config().init_path = "/nowhere/thaw-init";
  const auto opened = node.open();
  ASSERT_FALSE(opened.ok());
  EXPECT_NE(opened.error().message.find("/nowhere/thaw-init"), std::string::npos) << opened.error().message;
}

TEST(AgentOpen, WithoutRootAndSandboxEnginesRunAllTheSame) {
  if (::geteuid() != 0) GTEST_SKIP() << "to give up root, be root";
  TestNode node(spec::SandboxKind::none);
  const std::string top = std::filesystem::path(node.data_dir()).parent_path();
  for (const std::string& path : {top, top + "/models", node.model_path()}) ASSERT_EQ(::chown(path.c_str(), 65'534, 65'534), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setgid(65'534) != 0 || ::setuid(65'534) != 0) ::_exit(2);
    const auto opened = node.open();
    if (!opened.ok()) ::_exit(std::fprintf(stderr, "%s\n", opened.error().message.c_str()) > 0 ? 3 : 4);
    const auto instance = node.start_ready();
    if (!node.agent().usage(instance).ok()) ::_exit(5);
    node.close();
    ::_exit(node.events().has<wire::InstanceGone>(instance) ? 0 : 6);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(AgentOpen, WithoutRootItNamesWhatSuffices) {
  if (::geteuid() != 0) GTEST_SKIP() << "to give up root, be root";
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setuid(65'534) != 0) ::_exit(2);
    AgentConfig config;
    config.data_dir = "/nowhere";
    Agent agent(config, [](const wire::NodeEvent&) {});
    const auto hello = agent.open();
    if (hello.ok()) ::_exit(3);
    const std::string& text = hello.error().message;
    ::_exit(text.find("CAP_SYS_ADMIN") != std::string::npos && text.find("--sandbox=none") != std::string::npos ? 0 : 4);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace thaw::node::test
