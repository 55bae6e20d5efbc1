/// A device's files in a container image's root: where the image's links lead them, and where not; and a runc sandbox
/// that has them.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include "node/cdi/image_grant.h"
#include "node/limits.h"
#include "node/sandbox/driver_layer.h"
#include "node/sandbox/files.h"
#include "node/sandbox/image_root.h"
#include "node/sandbox/mounts.h"
#include "node/sandbox/pipes.h"
#include "node/sandbox/runc.h"
#include "unit/node/agent_harness.h"
#include "unit/temp_dir.h"

namespace thaw::node::test {
namespace {

namespace fs = std::filesystem;

class DriverLayer : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::permissions(dir_.path(), fs::perms(0755));
    fs::create_directories(root() + "/usr/lib/x86_64-linux-gnu");
    fs::create_directories(layer());
    link("usr/lib", "/lib");
    std::ofstream(root() + "/usr/file") << "x";
    std::ofstream(library()) << "driver";
  }
  [[nodiscard]] std::string root() const { return dir_.file("root"); }
  [[nodiscard]] std::string layer() const { return dir_.file("layer"); }
  [[nodiscard]] std::string library() const { return dir_.file("libcuda"); }
  void link(const std::string& target, const std::string& path) const { fs::create_symlink(target, root() + path); }
  [[nodiscard]] std::string place(const std::string& path) const {
    const auto found = place_in_root(root(), path);
    return found.ok() ? *found : "error: " + found.error().message;
  }
  [[nodiscard]] DeviceGrant grant_at(const std::string& inside) const {
    DeviceGrant grant;
    grant.mounts.push_back({library(), inside, true});
    return grant;
  }
  thaw::test::TempDir dir_;
};

TEST_F(DriverLayer, LinksOfTheImageLeadWithinTheImage) {
  link("/usr/lib", "/absolute");
  link("../../../../../../..", "/usr/up");
  link("absolute/../lib/./x86_64-linux-gnu", "/several");
  link("/thaw-nowhere", "/broken");
  EXPECT_EQ(place("/usr/lib/libcuda.so"), "/usr/lib/libcuda.so");
  EXPECT_EQ(place("/lib/firmware/nvidia/gsp.bin"), "/usr/lib/firmware/nvidia/gsp.bin")
      << "the usual link of a merged /usr";
  EXPECT_EQ(place("/absolute/x"), "/usr/lib/x");
  EXPECT_EQ(place("/usr/up/etc/x"), "/etc/x") << "above the root is the root";
  EXPECT_EQ(place("/several/x"), "/usr/lib/x86_64-linux-gnu/x");
  EXPECT_EQ(place("/broken/x"), "/thaw-nowhere/x");
  EXPECT_EQ(place("/not/there/x"), "/not/there/x");
  EXPECT_EQ(place("/lib"), "/lib") << "the last component is not looked at";
}

TEST_F(DriverLayer, WaysThatDoNotEndAreRefused) {
  link("b", "/a");
  link("a", "/b");
  EXPECT_NE(place("/a/x").find("endless"), std::string::npos);
  EXPECT_NE(place("/usr/file/x").find("has a file at /usr/file"), std::string::npos);
  std::string deep = "/";
  for (int i = 0; i < 600; ++i) deep += "d/";
  EXPECT_NE(place(deep + "x").find("endless"), std::string::npos);
}

TEST_F(DriverLayer, HasMountPointsAndLinksWhereTheImageLooksForThem) {
  DeviceGrant grant = grant_at("/lib/x86_64-linux-gnu/libcuda.so.550");
  fs::create_directory(dir_.file("directory"));
  grant.mounts.push_back({dir_.file("directory"), "/opt/vendor/share"});
  grant.links = {{"/lib/x86_64-linux-gnu/libcuda.so.1", "libcuda.so.550"},
                 {"/thaw-driver/libcuda.so.1", "/lib/x86_64-linux-gnu/libcuda.so.550"},
                 {"/usr/lib/x86_64-linux-gnu/libcuda.so.1", "the same place again"}};
  const auto made = make_driver_layer(root(), layer(), grant);
  ASSERT_TRUE(made.ok()) << made.error().message;
  EXPECT_EQ(grant.mounts[0].inside_path, "/usr/lib/x86_64-linux-gnu/libcuda.so.550") << "mounted by no link";
  EXPECT_TRUE(fs::is_regular_file(layer() + "/usr/lib/x86_64-linux-gnu/libcuda.so.550"));
  EXPECT_EQ(fs::read_symlink(layer() + "/usr/lib/x86_64-linux-gnu/libcuda.so.1"), "libcuda.so.550");
  EXPECT_EQ(fs::read_symlink(layer() + "/thaw-driver/libcuda.so.1"), "/lib/x86_64-linux-gnu/libcuda.so.550");
  EXPECT_TRUE(fs::is_directory(layer() + "/opt/vendor/share"));
  EXPECT_FALSE(fs::exists(fs::symlink_status(layer() + "/lib"))) << "the image's own link stays what it is";
  EXPECT_TRUE(fs::is_empty(root() + "/usr/lib/x86_64-linux-gnu")) << "nothing is written into the image";
}

TEST_F(DriverLayer, AnImageCannotLeadItToTheSandboxsOwnPlaces) {
  int made = 0;
  for (const char* target : {"/proc/self", "/dev", "/sys/fs", "/thaw/model", "../../thaw"}) {
    fs::remove(root() + "/usr/lib/trap");
    link(target, "/usr/lib/trap");
    for (const bool as_link : {false, true}) {
      DeviceGrant grant = as_link ? DeviceGrant() : grant_at("/lib/trap/x");
      if (as_link) grant.links.push_back({"/lib/trap/x", "y"});
      const std::string layer = dir_.file("layer-" + std::to_string(made++));
      fs::create_directory(layer);
      const auto refused = make_driver_layer(root(), layer, grant);
      ASSERT_FALSE(refused.ok()) << target;
      EXPECT_NE(refused.error().message.find("the sandbox's own"), std::string::npos) << refused.error().message;
      EXPECT_TRUE(fs::is_empty(layer));
    }
  }
}

TEST_F(DriverLayer, WhatIsNotThereAnyMoreIsSaid) {
  DeviceGrant grant = grant_at("/usr/lib/x");
  fs::remove(library());
  const auto refused = make_driver_layer(root(), layer(), grant);
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find(library()), std::string::npos);
}

/// The fake engine in a root whose image would like the driver elsewhere, and has a libcuda.so.1 of its own.
TEST_F(DriverLayer, AnEngineInAnImageSeesTheDriverAndNothingStays) {
  if (const std::string cannot = cannot_sandbox(spec::SandboxKind::runc); !cannot.empty()) GTEST_SKIP() << cannot;
  SandboxHome home;
  home.directory = dir_.file("home");
  home.label = "test-driver-" + label_of(dir_.path());
  home.init_path = std::string(THAW_BINARY_DIR) + "/thaw-init";
  home.uid_base = 524'288;
  home.cgroups = *CgroupHost::detect();
  auto opened = RuncMaker::open(home);
  ASSERT_TRUE(opened.ok()) << opened.error().message;
  std::unique_ptr<RuncMaker> maker = std::move(*opened);

  fs::create_directories(root() + "/bin");
  fs::copy_file(std::string(THAW_BINARY_DIR) + "/fake-engine", root() + "/bin/fake-engine");
  std::ofstream(root() + "/usr/lib/x86_64-linux-gnu/libcuda.so.1") << "a stub of the image's";
  link("/etc", "/thaw-driver");
  const std::string real = std::string(THAW_BINARY_DIR) + "/emulator/libcuda.so.1";
  CdiEdits edits;
  edits.device_nodes.push_back({"/dev/nvidia0", "/dev/null", "", {}, {}, {}, ""});
  edits.mounts.push_back({real, "/lib/x86_64-linux-gnu/libcuda.so.550.54", "", {"ro"}});
  edits.mounts.push_back({library(), "/lib/firmware/gsp.bin", "", {"ro"}});
  edits.hooks.push_back({"createContainer",
                         "/usr/bin/nvidia-cdi-hook",
                         {"x", "create-symlinks", "--link", "libcuda.so.1::/lib/x86_64-linux-gnu/libcuda.so"},
                         {},
                         {}});
  const auto grant = image_grant_of(edits);
  ASSERT_TRUE(grant.ok()) << grant.error().message;
  SandboxContents contents{.model_files = {}, .engine_dir = {}, .devices = *grant};
  contents.root_layers = {root()};
  auto made = maker->make(base::InstanceId(1), contents);
  ASSERT_TRUE(made.ok()) << made.error().message;
  const std::unique_ptr<Sandbox> sandbox = std::move(*made);
  ASSERT_TRUE(
      sandbox->run({"fake-engine", "--host", maker->view(base::InstanceId(1)).socket}, {{"PATH", "/bin"}}).ok());
  ASSERT_TRUE(eventually(
      [&] { return sandbox->ended() || *probe_ready(sandbox->socket_path(), base::Seconds(1)) == Readiness::yes; }));
  ASSERT_FALSE(sandbox->ended()) << read_available(sandbox->take_output().get());

  const std::string inside = "/proc/" + std::to_string(sandbox->engine_pid()) + "/root";
  const std::string libraries = inside + "/usr/lib/x86_64-linux-gnu/";
  EXPECT_EQ(fs::file_size(libraries + "libcuda.so.550.54"), fs::file_size(real));
  EXPECT_EQ(fs::read_symlink(libraries + "libcuda.so.1"), "libcuda.so.550.54") << "not the image's";
  EXPECT_EQ(fs::read_symlink(libraries + "libcuda.so"), "libcuda.so.1");
  EXPECT_EQ(fs::read_symlink(inside + "/lib"), "usr/lib");
  EXPECT_EQ(*read_small_file(inside + "/usr/lib/firmware/gsp.bin"), "driver");
  EXPECT_EQ(fs::read_symlink(inside + "/thaw-driver/libcuda.so.1"), "/lib/x86_64-linux-gnu/libcuda.so.550.54");
  EXPECT_EQ(fs::read_symlink(inside + "/thaw-driver/libcuda.so"), "/lib/x86_64-linux-gnu/libcuda.so.1");
  EXPECT_TRUE(fs::is_character_file(inside + "/dev/nvidia0"));
  EXPECT_EQ(::access((libraries + "libcuda.so.550.54").c_str(), R_OK), 0);
  EXPECT_EQ(::access((libraries + "libcuda.so.550.54").c_str(), W_OK), -1);
  EXPECT_EQ(errno, EROFS);
  EXPECT_TRUE(sandbox->destroy().ok());
  EXPECT_TRUE(mounts_below(home.directory).empty());
  EXPECT_TRUE(fs::is_empty(home.boxes()));
  EXPECT_EQ(*read_small_file(root() + "/usr/lib/x86_64-linux-gnu/libcuda.so.1"), "a stub of the image's");
  maker.reset();
  home.cgroups->remove_parent(home.label);
}

}  // namespace
}  // namespace thaw::node::test
