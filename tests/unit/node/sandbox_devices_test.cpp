/// What a runc sandbox is given beside its model: devices as CDI files declare them, secrets; and its small place for the socket.
#include <sys/stat.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "node/sandbox/files.h"
#include "node/sandbox/mounts.h"
#include "node/sandbox/pipes.h"
#include "node/sandbox/runc.h"
#include "unit/node/agent_harness.h"

namespace thaw::node::test {
namespace {

namespace fs = std::filesystem;

class SandboxDevices : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = cannot_sandbox(); !why.empty()) GTEST_SKIP() << why;
    home_.directory = directory_.path() + "/home";
    fs::create_directories(home_.directory);
    for (const std::string& open : {directory_.path(), home_.directory}) ::chmod(open.c_str(), 0755);
    home_.label = "test-" + label_of(directory_.path());
    home_.init_path = std::string(THAW_BINARY_DIR) + "/thaw-init";
    home_.uid_base = 524'288;
    auto cgroups = CgroupHost::detect();
    ASSERT_TRUE(cgroups.ok()) << cgroups.error().message;
    home_.cgroups = *cgroups;
    auto opened = RuncMaker::open(home_);
    ASSERT_TRUE(opened.ok()) << opened.error().message;
    maker_ = *std::move(opened);
    model_ = write_tiny_model(directory_.path());
  }
  void TearDown() override {
    if (!maker_) return;
    EXPECT_TRUE(mounts_below(home_.directory).empty());
    EXPECT_TRUE(fs::is_empty(home_.boxes()));
    home_.cgroups->remove_parent(home_.label);
  }

  /// What a script says inside.
  static std::string run(Sandbox& sandbox, const std::string& script) {
    const Fd output = sandbox.take_output();
    EXPECT_TRUE(sandbox.run({"/bin/bash", "-c", script}, {{"PATH", "/usr/bin:/bin"}}).ok());
    std::string text;
    EXPECT_TRUE(eventually([&] {
      text += read_available(output.get());
      return sandbox.ended();
    }));
    return text + read_available(output.get());
  }

  TempDir directory_;
  SandboxHome home_;
  std::string model_;
  std::unique_ptr<RuncMaker> maker_;
};

TEST_F(SandboxDevices, AreThoseThatWereGrantedAtThePlacesThatWereSaid) {
  const std::string library = directory_.path() + "/libvendor.so";
  std::ofstream(library) << "vendor";
  const std::string mark = directory_.path() + "/hook-ran";
  CdiEdits edits;
  edits.device_nodes.push_back({"/dev/vendor/zero", "/dev/zero", "c", 1, 5, {}, "rw"});
  edits.device_nodes.push_back({"/dev/kmsg", "", "", {}, {}, {}, "r"});
  edits.mounts.push_back({library, "/opt/vendor/lib/libvendor.so", "", {"ro", "nosuid", "nodev", "bind"}});
  edits.hooks.push_back({"createRuntime", "/usr/bin/touch", {"touch", mark}, {}, 5});
  auto grant = grant_of(edits, {"/usr"});
  ASSERT_TRUE(grant.ok()) << grant.error().message;
  auto made = maker_->make(base::InstanceId(1), {{model_}, "/usr/bin", *grant});
  ASSERT_TRUE(made.ok()) << made.error().message;
  const std::string said = run(**made,
                               "head -c 3 /dev/vendor/zero | od -An -tx1; test -e /dev/kmsg && echo kmsg; cat /opt/vendor/lib/libvendor.so; echo;"
                               "(echo x > /opt/vendor/lib/libvendor.so) 2>&1 | grep -o 'Read-only file system'; ls -A /dev | grep -c vda");
  EXPECT_EQ(said, " 00 00 00\nkmsg\nvendor\nRead-only file system\n0\n");
  EXPECT_TRUE(fs::exists(mark)) << "the operator's hook";
  EXPECT_TRUE((*made)->destroy().ok());
}

TEST_F(SandboxDevices, WhatIsNotThereIsSaidWithItsName) {
  CdiEdits edits;
  edits.device_nodes.push_back({"/dev/nvidia77", "", "", {}, {}, {}, ""});
  const auto grant = grant_of(edits, {"/usr"});
  ASSERT_FALSE(grant.ok());
  EXPECT_NE(grant.error().message.find("/dev/nvidia77"), std::string::npos);
}

TEST_F(SandboxDevices, SecretsAreShownInSandboxesMadeAheadAndMadeForTheirInstance) {
  SandboxContents contents{{model_}, "/usr/bin"};
  contents.secrets = {{"token", "abc"}};
  for (const bool ahead : {false, true}) {
    auto made = ahead ? maker_->make_empty() : maker_->make(base::InstanceId(1), contents);
    ASSERT_TRUE(made.ok()) << made.error().message;
    if (ahead) {
      ASSERT_TRUE((*made)->expose(contents).ok());
    }
    EXPECT_EQ(run(**made, "cat /run/secrets/token; echo; stat -c '%a %u' /run/secrets/token; (echo x > /run/secrets/token) 2>/dev/null || echo kept; env | grep -c abc"),
              "abc\n400 1000\nkept\n0\n");
    EXPECT_TRUE((*made)->destroy().ok());
  }
}

TEST_F(SandboxDevices, PlacesForTemporaryFilesAreThere) {
  auto made = maker_->make_empty();
  ASSERT_TRUE(made.ok()) << made.error().message;
  EXPECT_EQ(run(**made, "stat -c %a /tmp /dev/shm; echo x > /tmp/x && echo y > /dev/shm/y && cat /tmp/x /dev/shm/y"), "1777\n1777\nx\ny\n");
  EXPECT_TRUE((*made)->destroy().ok());
}

TEST_F(SandboxDevices, TheSocketsPlaceIsSmall) {
  auto made = maker_->make_empty();
  ASSERT_TRUE(made.ok()) << made.error().message;
  EXPECT_EQ(run(**made, "head -c 1000000 /dev/zero > /thaw/run/x 2>/dev/null || echo full; i=0; while echo > /thaw/run/$i; do i=$((i+1)); done 2>/dev/null; test $i -lt 64 && echo few"),
            "full\nfew\n");
  EXPECT_TRUE((*made)->destroy().ok());
}

}  // namespace
}  // namespace thaw::node::test
