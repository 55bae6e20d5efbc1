/// Sandboxes whose root is a container image's: layers under runc and under gVisor, and what is seen of the host.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "node/engine/engine.h"
#include "node/limits.h"
#include "node/sandbox/files.h"
#include "node/sandbox/mounts.h"
#include "node/sandbox/pipes.h"
#include "node/sandbox/runc.h"
#include "node/sandbox/runsc.h"
#include "unit/node/agent_harness.h"
#include "unit/temp_dir.h"

namespace thaw::node::test {
namespace {

namespace fs = std::filesystem;

class ImageRootTest : public ::testing::TestWithParam<spec::SandboxKind> {
 protected:
  void SetUp() override {
    if (const std::string cannot = cannot_sandbox(GetParam()); !cannot.empty()) GTEST_SKIP() << cannot;
    fs::permissions(dir_.path(), fs::perms(0755));
    home_.directory = dir_.file("home");
    home_.label = "test-image-" + label_of(dir_.path());
    home_.init_path = std::string(THAW_BINARY_DIR) + "/thaw-init";
    home_.uid_base = 524'288;
    home_.cgroups = *CgroupHost::detect();
    fs::create_directories(dir_.file("low/bin"));
    fs::create_directories(dir_.file("top/srv"));
    fs::copy_file(std::string(THAW_BINARY_DIR) + "/fake-engine", dir_.file("low/bin/fake-engine"));
    fs::create_symlink("/etc", dir_.file("top/thaw"));  // an image cannot lead our mounts elsewhere
    std::ofstream(dir_.file("top/srv/mark")) << "top";
    if (GetParam() == spec::SandboxKind::runc) {
      auto maker = RuncMaker::open(home_);
      ASSERT_TRUE(maker.ok()) << maker.error().message;
      maker_ = std::move(*maker);
    } else {
      auto maker = RunscMaker::open(home_);
      ASSERT_TRUE(maker.ok()) << maker.error().message;
      maker_ = std::move(*maker);
    }
  }
  void TearDown() override {
    maker_.reset();
    if (home_.cgroups) home_.cgroups->remove_parent(home_.label);
  }

  thaw::test::TempDir dir_;
  SandboxHome home_;
  std::unique_ptr<SandboxMaker> maker_;
};

TEST_P(ImageRootTest, AnEngineRunsInItAndNothingOfItStays) {
  SandboxContents contents{.model_files = {}, .engine_dir = {}};
  contents.root_layers = {dir_.file("top"), dir_.file("low")};
  contents.working_dir = "/srv";
  auto made = maker_->make(base::InstanceId(1), contents);
  ASSERT_TRUE(made.ok()) << made.error().message;
  std::unique_ptr<Sandbox> sandbox = std::move(*made);
  ASSERT_TRUE(sandbox->limit({.memory_bytes = 512ULL << 20, .pids = 1024}).ok());
  const LaunchPaths paths = maker_->view(base::InstanceId(1));
  std::vector<std::string> argv{"fake-engine", "--host", paths.socket.empty() ? paths.address : paths.socket};  // by its name in PATH
  if (paths.socket.empty()) argv.insert(argv.end(), {"--port", std::to_string(paths.port)});
  ASSERT_TRUE(sandbox->run(argv, {{"PATH", "/nowhere::/bin"}}).ok());
  ASSERT_TRUE(eventually([&] { return sandbox->ended() || *probe_ready(sandbox->socket_path(), base::Seconds(1)) == Readiness::yes; }));
  ASSERT_FALSE(sandbox->ended()) << read_available(sandbox->take_output().get());
  if (GetParam() == spec::SandboxKind::runc) {
    const std::string root = "/proc/" + std::to_string(sandbox->engine_pid()) + "/root";
    EXPECT_EQ(*read_small_file(root + "/srv/mark"), "top");
    EXPECT_FALSE(fs::exists(root + "/usr/bin/env")) << "nothing of the host's programs";
    EXPECT_TRUE(fs::is_directory(root + "/thaw/run"));
    std::error_code error;
    EXPECT_EQ(fs::read_symlink("/proc/" + std::to_string(sandbox->engine_pid()) + "/cwd", error), "/srv");
  }
  const auto gone = sandbox->destroy();
  EXPECT_TRUE(gone.ok()) << gone.error().message;
  EXPECT_TRUE(mounts_below(home_.directory).empty());
  EXPECT_TRUE(fs::exists(dir_.file("low/bin/fake-engine")));
}

TEST_P(ImageRootTest, WhatIsNoLayerIsSaid) {
  SandboxContents contents{.model_files = {}, .engine_dir = {}};
  contents.root_layers = {dir_.file("nowhere")};
  const auto made = maker_->make(base::InstanceId(1), contents);
  ASSERT_FALSE(made.ok());
  EXPECT_NE(made.error().message.find("layer"), std::string::npos) << made.error().message;
  EXPECT_TRUE(mounts_below(home_.directory).empty());
}

INSTANTIATE_TEST_SUITE_P(Kinds, ImageRootTest, ::testing::Values(spec::SandboxKind::runc, spec::SandboxKind::runsc),
                         [](const auto& kind) { return std::string(to_string(kind.param)); });

}  // namespace
}  // namespace thaw::node::test
