#include <gtest/gtest.h>

#include <csignal>
#include <cstdint>
#include <cstring>

#include "node/sandbox/files.h"
#include "node/sandbox/init_message.h"
#include "node/sandbox/pipes.h"
#include "node/sandbox/process.h"
#include "unit/node/agent_harness.h"

namespace thaw::node::test {
namespace {

const std::vector<std::string> kPathOnly{"PATH=/usr/bin:/bin"};

base::Result<Exit> shell(const std::string& script, base::Duration timeout = kPatience) {
  return run({.argv = {"/bin/sh", "-c", script}, .env = kPathOnly}, timeout);
}

TEST(Process, SaysHowItEnded) {
  EXPECT_EQ(shell("exit 3")->text(), "exit status 3");
  EXPECT_EQ(shell("kill -9 $$")->text(), "signal 9 (Killed)");
}

TEST(Process, WhatCannotBeRunIsNamed) {
  const auto exit = run({.argv = {"/nowhere/program"}}, kPatience);
  ASSERT_FALSE(exit.ok());
  EXPECT_NE(exit.error().message.find("/nowhere/program"), std::string::npos);
}

TEST(Process, IsKilledWithItsChildrenAtTheTimeout) {
  const auto exit = shell("sleep 1000 & sleep 1000", base::Millis(100));
  ASSERT_FALSE(exit.ok());
  EXPECT_EQ(exit.error().kind, base::ErrorKind::timeout);
}

TEST(Process, SeesAnEndBeforeItReaps) {
  const auto pid = spawn({.argv = {"/bin/true"}});
  ASSERT_TRUE(pid.ok());
  const auto pidfd = open_pidfd(*pid);
  ASSERT_TRUE(pidfd.ok());
  ASSERT_TRUE(wait_ended(pidfd->get(), kPatience));
  EXPECT_EQ(peek_exit(pidfd->get())->code, 0);
  EXPECT_EQ(reap(pidfd->get())->code, 0);
  EXPECT_EQ(reap(pidfd->get()).error().kind, base::ErrorKind::not_found);
}

/// thaw-init outside of any sandbox.
class Init : public ::testing::Test {
 protected:
  void SetUp() override {
    auto control = make_control_pair();
    auto output = make_output_pipe();
    ASSERT_TRUE(control.ok() && output.ok());
    const auto pid = spawn({.argv = {std::string(THAW_BINARY_DIR) + "/thaw-init"},
                            .env = {},
                            .stdin_fd = control->theirs.get(),
                            .output_fd = output->theirs.get()});
    ASSERT_TRUE(pid.ok()) << pid.error().message;
    ours = std::move(control->ours);
    out = std::move(output->ours);
    pidfd = open_pidfd(*pid).value();
  }
  void TearDown() override {
    send_signal(pidfd.get(), SIGKILL);
    wait_ended(pidfd.get(), kPatience);
    (void)reap(pidfd.get());
  }
  void tell(const std::string& bytes) { ASSERT_EQ(::write(ours.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size())); }
  void tell_shell(const std::string& script) { tell(init_message({"/bin/sh", "-c", script}, {{"PATH", "/usr/bin:/bin"}, {"GREETING", "hello"}}).value()); }
  Exit end() {
    EXPECT_TRUE(wait_ended(pidfd.get(), kPatience));
    return peek_exit(pidfd.get()).value();
  }

  Fd ours;
  Fd out;
  Fd pidfd;
};

TEST_F(Init, EndsWhenNobodyHoldsItsOtherEnd) {
  ours.reset();
  EXPECT_EQ(end().text(), "exit status 0");
}

TEST_F(Init, EndsWhenTheOtherEndGoesInTheMiddleOfAMessage) {
  tell(init_message({"/bin/true"}, {}).value().substr(0, 20));
  ours.reset();
  EXPECT_EQ(end().text(), "exit status 0");
}

TEST_F(Init, PassesArgumentsAndEnvironmentAndReportsTheStatus) {
  tell_shell("echo $GREETING; echo to stderr >&2; exit 7");
  end();
  EXPECT_EQ(read_available(out.get()), "hello\nto stderr\n");
  const auto ending = read_ending(ours.get());
  ASSERT_TRUE(ending);
  EXPECT_EQ(ending->text(), "exit status 7");
}

TEST_F(Init, ReportsTheSignal) {
  tell_shell("kill -ABRT $$");
  end();
  EXPECT_EQ(read_ending(ours.get())->text(), "signal 6 (Aborted)");
}

TEST_F(Init, HandsSigtermOn) {
  tell_shell("trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done");
  std::string said;
  ASSERT_TRUE(eventually([&] { return (said += read_available(out.get())).find("ready") != std::string::npos; }));
  send_signal(pidfd.get(), SIGTERM);
  end();
  EXPECT_EQ(read_ending(ours.get())->text(), "exit status 5");
}

TEST_F(Init, SaysWhatItCannotRun) {
  tell(init_message({"/nowhere/engine"}, {}).value());
  end();
  EXPECT_EQ(read_ending(ours.get())->text(), "exit status 127");
  EXPECT_NE(read_available(out.get()).find("/nowhere/engine: No such file"), std::string::npos);
}

TEST_F(Init, RefusesWhatIsNoMessage) {
  tell(std::string(64, 'x'));
  EXPECT_EQ(end().text(), "exit status 127");
}

TEST_F(Init, RefusesAMessageWhoseCountsLie) {
  std::string message = init_message({"/bin/true", "a"}, {}).value();
  const std::uint32_t three = 3;
  std::memcpy(message.data() + 8, &three, sizeof three);  // argc
  tell(message);
  EXPECT_EQ(end().text(), "exit status 127");
}

TEST(InitMessage, RefusesWhatThawInitWouldNotTake) {
  EXPECT_FALSE(init_message({}, {}).ok());
  EXPECT_FALSE(init_message({"/bin/true", std::string("a\0b", 3)}, {}).ok());
  EXPECT_FALSE(init_message({"/bin/true", std::string(300'000, 'a')}, {}).ok());
  EXPECT_FALSE(init_message(std::vector<std::string>(9'000, "a"), {}).ok());
  EXPECT_TRUE(init_message({"/bin/true", std::string(200'000, 'a')}, {}).ok());
}

TEST(Files, RemoveTreeTakesAllAndOnlyIt) {
  const TempDir directory;
  ASSERT_TRUE(make_directories(directory.path() + "/a/b/c", 0755).ok());
  ASSERT_TRUE(write_file(directory.path() + "/a/b/file", "x", 0600).ok());
  ASSERT_TRUE(write_file(directory.path() + "/kept", "x", 0600).ok());
  ASSERT_EQ(::symlink((directory.path() + "/kept").c_str(), (directory.path() + "/a/link").c_str()), 0);
  EXPECT_TRUE(remove_tree(directory.path() + "/a").ok());
  EXPECT_TRUE(remove_tree(directory.path() + "/a").ok()) << "again is no error";
  EXPECT_TRUE(read_small_file(directory.path() + "/kept").ok());
  EXPECT_FALSE(write_control_file(directory.path() + "/absent", "x").ok()) << "control files are never created";
}

}  // namespace
}  // namespace thaw::node::test
