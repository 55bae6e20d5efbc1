#include <sys/stat.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "node/cdi/cdi_spec.h"
#include "node/cdi/grant.h"
#include "node/cdi/registry.h"
#include "node/device/grants.h"
#include "unit/node/agent_harness.h"

namespace thaw::node {
namespace {

// In the manner of `nvidia-ctk cdi generate` (toolkit 1.14 to 1.17): its keys, devices, hooks and mounts; the driver's version is invented.
constexpr const char* kNvidia = R"(---
cdiVersion: 0.5.0
kind: nvidia.com/gpu
containerEdits:
  env:
  - NVIDIA_VISIBLE_DEVICES=void
  deviceNodes:
  - path: /dev/nvidia-modeset
  - path: /dev/nvidia-uvm
  - path: /dev/nvidia-uvm-tools
  - path: /dev/nvidiactl
  hooks:
  - args:
    - nvidia-cdi-hook
    - create-symlinks
    - --link
    - libnvidia-allocator.so.1::/usr/lib/x86_64-linux-gnu/gbm/nvidia-drm_gbm.so
    hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
  - args:
    - nvidia-ctk
    - hook
    - update-ldcache
    - --folder
    - /usr/lib/x86_64-linux-gnu
    hookName: createContainer
    path: /usr/bin/nvidia-ctk
  mounts:
  - containerPath: /run/nvidia-persistenced/socket
    hostPath: /run/nvidia-persistenced/socket
    options:
    - ro
    - nosuid
    - nodev
    - bind
    - noexec
  - containerPath: /usr/lib/x86_64-linux-gnu/libcuda.so.550.54.15
    hostPath: /usr/lib/x86_64-linux-gnu/libcuda.so.550.54.15
    options:
    - ro
    - nosuid
    - nodev
    - bind
devices:
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
    - path: /dev/dri/card0
      hostPath: /dev/dri/card0
  name: "0"
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
    - path: /dev/nvidia1
  name: all
)";

constexpr const char* kJson = R"({
  "cdiVersion": "0.6.0", "kind": "vendor.com/net-card", "annotations": {"a.b": "c"},
  "devices": [
    {"name": "card0", "containerEdits": {
      "deviceNodes": [{"path": "/dev/vendor/card", "hostPath": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 438, "permissions": "rwm", "uid": 0, "gid": 0}],
      "hooks": [{"hookName": "prestart", "path": "/opt/hook", "args": ["hook", "x"], "env": ["A=b"], "timeout": 5}]}},
    {"name": "card1", "annotations": {}, "containerEdits": {"env": ["CARD=1"]}}
  ],
  "containerEdits": {"env": ["CARD=none", "VENDOR=yes"], "mounts": [{"hostPath": "/etc", "containerPath": "/opt/vendor/etc", "options": ["ro", "rbind"]}]}
})";

std::string refusal_of(const std::string& text) {
  const auto parsed = parse_cdi(text, "f.yaml");
  return parsed.ok() ? "no refusal" : parsed.error().message;
}

TEST(CdiSpec, ReadsWhatNvidiasToolWrites) {
  const auto parsed = parse_cdi(kNvidia, "nvidia.yaml");
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  EXPECT_EQ(parsed->kind, "nvidia.com/gpu");
  EXPECT_EQ(parsed->edits.env, std::vector<std::string>{"NVIDIA_VISIBLE_DEVICES=void"});
  ASSERT_EQ(parsed->edits.device_nodes.size(), 4U);
  EXPECT_EQ(parsed->edits.device_nodes[3].path, "/dev/nvidiactl");
  ASSERT_EQ(parsed->edits.hooks.size(), 2U);
  EXPECT_EQ(parsed->edits.hooks[1].args[2], "update-ldcache");
  ASSERT_EQ(parsed->edits.mounts.size(), 2U);
  EXPECT_EQ(parsed->edits.mounts[0].options.size(), 5U);
  ASSERT_EQ(parsed->devices.size(), 2U);
  EXPECT_EQ(parsed->devices[0].name, "0");
  EXPECT_EQ(parsed->devices[0].edits.device_nodes[1].host_path, "/dev/dri/card0");
}

TEST(CdiSpec, ReadsJsonWithAllThatTheFormatHas) {
  const auto parsed = parse_cdi(kJson, "vendor.json");
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  const CdiDeviceNode& node = parsed->devices[0].edits.device_nodes[0];
  EXPECT_EQ(node.host_path, "/dev/null");
  EXPECT_EQ(node.major, 1);
  EXPECT_EQ(node.minor, 3);
  EXPECT_EQ(node.file_mode, 438U);
  EXPECT_EQ(node.permissions, "rwm");
  const CdiHook& hook = parsed->devices[0].edits.hooks[0];
  EXPECT_EQ(hook.env, std::vector<std::string>{"A=b"});
  EXPECT_EQ(hook.timeout_s, 5U);
}

TEST(CdiSpec, RefusesWhatItDoesNotUnderstandAndSaysWhere) {
  const std::string head = "cdiVersion: 0.6.0\nkind: a.com/b\ndevices:\n- name: x\n  containerEdits: ";
  EXPECT_EQ(refusal_of(head + "{env: [A=b]}"), "no refusal");
  EXPECT_NE(refusal_of(head + "{enf: [A=b]}").find("f.yaml:5"), std::string::npos);
  EXPECT_NE(refusal_of(head + "{env: [A]}").find("NAME=value"), std::string::npos);
  EXPECT_NE(refusal_of(head + "{deviceNodes: [{path: dev/x}]}").find("absolute"), std::string::npos);
  EXPECT_NE(refusal_of(head + "{deviceNodes: [{path: /dev/../etc/x}]}").find("absolute"), std::string::npos);
  EXPECT_NE(refusal_of(head + "{deviceNodes: [{path: /dev/x, permissions: rx}]}").find("letters"), std::string::npos);
  EXPECT_NE(refusal_of(head + "{mounts: [{hostPath: /a}]}").find("containerPath"), std::string::npos);
  EXPECT_NE(refusal_of(head + "{hooks: [{hookName: later, path: /x}]}").find("hookName"), std::string::npos);
  EXPECT_NE(refusal_of(head + "{intelRdt: {closID: x}}").find("not supported"), std::string::npos);
  EXPECT_NE(refusal_of(head + "{netDevices: [{hostInterfaceName: eth0, name: x}]}").find("not supported"), std::string::npos);
  for (const char* version : {"0.2.0", "2.0.0", "0.6", "0.6.0.1", "x"})
    EXPECT_NE(refusal_of(std::string("cdiVersion: \"") + version + "\"\nkind: a.com/b\ndevices: []\n").find("version"), std::string::npos) << version;
  for (const char* kind : {"a.com", "/b", "a.com/", "a.com/b/c", "1.com/b", "a..com/-b"})
    EXPECT_NE(refusal_of(std::string("cdiVersion: 1.0.0\nkind: \"") + kind + "\"\ndevices: []\n").find("VENDOR/CLASS"), std::string::npos) << kind;
  EXPECT_NE(refusal_of("cdiVersion: 0.6.0\nkind: a.com/b\ndevices: [{name: x, containerEdits: {}}, {name: x, containerEdits: {}}]").find("twice"), std::string::npos);
  EXPECT_NE(refusal_of("").find("empty"), std::string::npos);
}

class CdiFiles : public ::testing::Test {
 protected:
  std::string directory(const char* name) {
    const std::string path = temp_.path() + "/" + name;
    std::filesystem::create_directories(path);
    return path;
  }
  static void write(const std::string& path, const std::string& text) {
    std::ofstream(path) << text;
    ::chmod(path.c_str(), 0644);
  }
  test::TempDir temp_;
};

TEST_F(CdiFiles, EditsOfTheFileComeOnceAndBeforeTheDevices) {
  const std::string etc = directory("etc");
  write(etc + "/vendor.json", kJson);
  const CdiRegistry registry = CdiRegistry::load({etc, temp_.path() + "/absent"});
  EXPECT_TRUE(registry.problems().empty());
  EXPECT_TRUE(registry.has_kind("vendor.com/net-card"));
  EXPECT_EQ(registry.devices("vendor.com/net-card"), (std::vector<std::string>{"card0", "card1"}));
  const auto edits = registry.edits_for({"vendor.com/net-card=card0", "vendor.com/net-card=card1"});
  ASSERT_TRUE(edits.ok()) << edits.error().message;
  EXPECT_EQ(edits->env, (std::vector<std::string>{"CARD=none", "VENDOR=yes", "CARD=1"}));
  const auto grant = grant_of(*edits, {"/usr"});
  ASSERT_TRUE(grant.ok()) << grant.error().message;
  EXPECT_EQ(grant->env.at("CARD"), "1") << "the later holds";
  ASSERT_EQ(grant->nodes.size(), 1U);
  EXPECT_EQ(grant->nodes[0].inside_path, "/dev/vendor/card");
  EXPECT_EQ(grant->nodes[0].access, "rw") << "not to make device files";
  ASSERT_EQ(grant->mounts.size(), 1U);
  EXPECT_FALSE(grant->mounts[0].writable);
  ASSERT_EQ(grant->hooks.size(), 1U);
}

TEST_F(CdiFiles, WhatIsMadeAtRunTimeGoesFirstAndTwoOfOneDirectoryAreAConflict) {
  const std::string etc = directory("etc");
  const std::string run = directory("run");
  const auto file = [](const char* value) {
    return std::string("cdiVersion: 0.6.0\nkind: a.com/b\ndevices: [{name: x, containerEdits: {env: [FROM=") + value + "]}}]\n";
  };
  write(etc + "/a.yaml", file("etc"));
  write(run + "/a.yml", file("run"));
  EXPECT_EQ(CdiRegistry::load({etc, run}).edits_for({"a.com/b=x"})->env, std::vector<std::string>{"FROM=run"});
  write(run + "/b.json", file("again"));
  const auto both = CdiRegistry::load({etc, run}).edits_for({"a.com/b=x"});
  ASSERT_FALSE(both.ok());
  EXPECT_EQ(both.error().kind, base::ErrorKind::conflict);
  EXPECT_NE(both.error().message.find("b.json"), std::string::npos);
}

TEST_F(CdiFiles, FilesThatOthersMayWriteAreNotUsed) {
  const std::string etc = directory("etc");
  write(etc + "/a.json", kJson);
  ::chmod((etc + "/a.json").c_str(), 0666);
  write(etc + "/b.json", "{");
  write(etc + "/c.txt", "neither YAML nor JSON by its name");
  const CdiRegistry registry = CdiRegistry::load({etc});
  EXPECT_EQ(registry.problems().size(), 2U);
  const auto none = registry.edits_for({"vendor.com/net-card=card0"});
  ASSERT_FALSE(none.ok());
  EXPECT_NE(none.error().message.find("others than root may write it"), std::string::npos);
}

TEST(CdiGrant, KeepsOutWhatWouldOpenTheSandbox) {
  const auto mounted_at = [](const char* place) {
    CdiEdits edits;
    edits.mounts.push_back({"/etc", place, "", {"rw"}});
    return grant_of(edits, {"/usr"}).ok();
  };
  for (const char* place : {"/", "/proc", "/proc/sys", "/sys/x", "/dev/shm", "/thaw/run", "/thaw", "//thaw//model/"}) EXPECT_FALSE(mounted_at(place)) << place;
  EXPECT_TRUE(mounted_at("/opt/x"));
  CdiEdits edits;
  edits.device_nodes.push_back({"/etc/null", "/dev/null", "", {}, {}, {}, ""});
  EXPECT_FALSE(grant_of(edits, {}).ok()) << "device files belong below /dev";
  edits.device_nodes[0] = {"/dev/x", "/etc/hostname", "", {}, {}, {}, ""};
  EXPECT_FALSE(grant_of(edits, {}).ok()) << "no device file";
  edits.device_nodes[0] = {"/dev/null", "", "c", 1, 5, {}, ""};
  const auto other = grant_of(edits, {});
  ASSERT_FALSE(other.ok()) << "a file of another time";
  EXPECT_NE(other.error().message.find("nvidia-ctk"), std::string::npos);
  edits.device_nodes.clear();
  edits.additional_gids = {44};
  EXPECT_FALSE(grant_of(edits, {}).ok());
}

TEST(CdiGrant, LeavesOutWhatTheSandboxSeesAnyway) {
  CdiEdits edits;
  edits.mounts.push_back({"/usr/bin/env", "/usr/bin/env", "", {"ro"}});
  edits.hooks.push_back({"createContainer", "/usr/bin/nvidia-ctk", {"nvidia-ctk", "hook", "update-ldcache"}, {}, {}});
  edits.hooks.push_back({"createContainer", "/usr/bin/other", {"other", "update-ldcache"}, {}, {}});
  const auto grant = grant_of(edits, {"/usr"});
  ASSERT_TRUE(grant.ok()) << grant.error().message;
  EXPECT_TRUE(grant->mounts.empty());
  ASSERT_EQ(grant->hooks.size(), 1U);
  EXPECT_EQ(grant->hooks[0].path, "/usr/bin/other");
}

TEST_F(CdiFiles, GpusAreWhatTheFilesSay) {
  const std::string etc = directory("etc");
  const GrantSettings settings{false, {etc}, {"no-driver.so", "no-nvml.so"}};
  EXPECT_TRUE(grant_devices({base::DeviceId("cpu0")}, settings)->empty());
  EXPECT_TRUE(grant_devices({base::DeviceId("cuda0")}, settings).ok()) << "no files: the driver's own";
  const auto required = grant_devices({base::DeviceId("cuda0")}, {true, {etc}, {"no-driver.so", "no-nvml.so"}});
  ASSERT_FALSE(required.ok());
  EXPECT_NE(required.error().message.find("nvidia-ctk cdi generate"), std::string::npos);
  write(etc + "/nvidia.yaml", R"({cdiVersion: 0.6.0, kind: nvidia.com/gpu, devices: [{name: "0", containerEdits: {deviceNodes: [{path: /dev/null}], env: [G=0]}},
    {name: "1", containerEdits: {deviceNodes: [{path: /dev/null}, {path: /dev/zero}], env: [G=1]}}]})");
  const auto both = grant_devices({base::DeviceId("cuda0"), base::DeviceId("cuda1")}, settings);
  ASSERT_TRUE(both.ok()) << both.error().message;
  EXPECT_EQ(both->nodes.size(), 2U) << "one of each path";
  EXPECT_EQ(both->env.at("G"), "1");
  const auto third = grant_devices({base::DeviceId("cuda2")}, settings);
  ASSERT_FALSE(third.ok());
  EXPECT_NE(third.error().message.find("nvidia.com/gpu=2"), std::string::npos);
  EXPECT_NE(third.error().message.find("nvidia-ctk cdi generate"), std::string::npos);
}

}  // namespace
}  // namespace thaw::node
