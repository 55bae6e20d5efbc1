/// thaw-init without the node: let go of for an image, and held again (node/sandbox/init/thaw-init.c).
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <string>

#include "node/host_access.h"
#include "node/sandbox/files.h"
#include "node/sandbox/pipes.h"
#include "node/sandbox/runc.h"
#include "unit/node/agent_harness.h"

namespace thaw::node::test {
namespace {

class LetGo : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = cannot_sandbox(); !why.empty()) GTEST_SKIP() << why;
    ASSERT_TRUE(adopt_orphans().ok());
    std::filesystem::permissions(directory_.path(), std::filesystem::perms(0755));
    home_.directory = directory_.path();
    home_.label = "test-" + label_of(directory_.path());
    home_.init_path = std::string(THAW_BINARY_DIR) + "/thaw-init";
    home_.uid_base = 524'288;
    const auto cgroups = CgroupHost::detect();
    ASSERT_TRUE(cgroups.ok()) << cgroups.error().message;
    home_.cgroups = *cgroups;
    auto maker = RuncMaker::open(home_);
    ASSERT_TRUE(maker.ok()) << maker.error().message;
    maker_ = *std::move(maker);
  }
  void TearDown() override {
    sandbox_.reset();
    if (home_.cgroups) home_.cgroups->remove_parent(home_.label);
  }

  /// A sandbox in which the shell has run `script` and said so.
  void run(const std::string& script) {
    auto made = maker_->make(base::InstanceId(1), {});
    ASSERT_TRUE(made.ok()) << made.error().message;
    sandbox_ = *std::move(made);
    output_ = sandbox_->take_output();
    ASSERT_TRUE(sandbox_->run({"/bin/sh", "-c", script + "; echo said; exec sleep 600"}, {{"PATH", "/usr/bin"}}).ok());
    std::string said;
    ASSERT_TRUE(eventually([&] { return (said += read_available(output_.get())).find("said") != std::string::npos; }));
  }
  /// Signals that thaw-init has yet to take.
  [[nodiscard]] std::uint64_t pending() const {
    const auto status = read_small_file("/proc/" + std::to_string(sandbox_->init_pid()) + "/status");
    return status.ok() ? std::stoull(status->substr(status->find("ShdPnd:") + 7), nullptr, 16) : 0;
  }
  /// How the engine's end by SIGABRT comes to be known.
  std::string end_of_engine() {
    EXPECT_EQ(::kill(sandbox_->engine_pid(), SIGABRT), 0);
    EXPECT_TRUE(eventually([&] { return sandbox_->ended(); }));
    const auto exit = peek_exit(sandbox_->pidfd());
    return exit.ok() ? sandbox_->ending(*exit).text() : exit.error().message;
  }

  TempDir directory_;
  SandboxHome home_;
  std::unique_ptr<RuncMaker> maker_;
  std::unique_ptr<Sandbox> sandbox_;
  Fd output_;
};

const std::string kAborted = Exit{true, SIGABRT}.text();

TEST_F(LetGo, TellsOfItsEnginesEndAllTheSame) {
  run(":");
  if (HasFatalFailure()) return;
  ASSERT_TRUE(sandbox_->let_go(base::Seconds(5)).ok());
  EXPECT_EQ(end_of_engine(), kAborted);
}

TEST_F(LetGo, IsHeldAndLetGoAgain) {
  run(":");
  if (HasFatalFailure()) return;
  for (int round = 0; round < 3; ++round) {
    const auto gone = sandbox_->let_go(base::Seconds(5));
    ASSERT_TRUE(gone.ok()) << gone.error().message;
    sandbox_->hold();
  }
  EXPECT_FALSE(sandbox_->ended());
  EXPECT_EQ(end_of_engine(), kAborted);
  EXPECT_FALSE(sandbox_->let_go(base::Seconds(5)).ok()) << "nobody is left";
}

TEST_F(LetGo, OnlyWhoIsOutsideCanAskForIt) {
  // Standard signals of one process are taken in the order of their numbers, one of each: SIGUSR1 (10) before SIGUSR2.
  run("kill -USR2 1; kill -USR1 1; kill -USR2 1");
  if (HasFatalFailure()) return;
  sandbox_->hold();  // not let go of: nothing happens
  ASSERT_TRUE(eventually([&] { return pending() == 0; }));
  std::error_code error;
  const auto descriptor =
      std::filesystem::read_symlink("/proc/" + std::to_string(sandbox_->init_pid()) + "/fd/0", error);
  EXPECT_TRUE(descriptor.string().starts_with("socket:")) << descriptor;
  EXPECT_EQ(end_of_engine(), kAborted);
}

}  // namespace
}  // namespace thaw::node::test
