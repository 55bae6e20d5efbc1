/// What CDI files declare, for sandboxes whose root is a container image's: nothing left out, and links instead of
/// hooks.
#include <elf.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "node/cdi/elf_soname.h"
#include "node/cdi/image_grant.h"
#include "node/cdi/library_hooks.h"
#include "node/device/grants.h"
#include "unit/node/agent_harness.h"
#include "unit/node/elf_builder.h"
#include "unit/temp_dir.h"

namespace thaw::node {
namespace {

namespace fs = std::filesystem;

const std::string kLibrary = std::string(THAW_BINARY_DIR) + "/emulator/libcuda.so.1";

std::string bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

CdiHook hook(std::vector<std::string> args, const char* path = "/usr/bin/nvidia-cdi-hook") {
  return {"createContainer", path, std::move(args), {}, {}};
}

std::string target_of(const std::vector<GrantedLink>& links, const std::string& path) {
  for (const GrantedLink& link : links)
    if (link.path == path) return link.target;
  return "no link";
}

class CdiImage : public ::testing::Test {
 protected:
  std::string file(const std::string& name, const std::string& bytes) {
    const std::string path = temp_.file(name);
    fs::create_directories(fs::path(path).parent_path());
    std::ofstream(path, std::ios::binary) << bytes;
    ::chmod(path.c_str(), 0644);
    return path;
  }
  /// The emulated driver's library with one of its bytes changed.
  std::optional<std::string> soname_with(std::size_t at, char value) {
    std::string bytes = bytes_of(kLibrary);
    bytes.at(at) = value;
    return soname_of(file("changed.so", bytes));
  }
  thaw::test::TempDir temp_;
};

TEST_F(CdiImage, ALibrarySaysItsName) {
  EXPECT_EQ(soname_of(kLibrary), "libcuda.so.1");
  fs::create_symlink(kLibrary, temp_.file("link.so"));
  EXPECT_EQ(soname_of(temp_.file("link.so")), "libcuda.so.1");
  EXPECT_EQ(soname_of("/proc/self/exe"), std::nullopt) << "a program";
  EXPECT_EQ(soname_of(file("text.so", "INPUT(-lcuda)\n")), std::nullopt) << "a linker's script";
  EXPECT_EQ(soname_of(file("empty.so", "")), std::nullopt);
  EXPECT_EQ(soname_of(temp_.path()), std::nullopt) << "a directory";
  EXPECT_EQ(soname_of(temp_.file("nowhere.so")), std::nullopt);
}

TEST_F(CdiImage, ABrokenLibraryHasNoName) {
  EXPECT_EQ(soname_with(EI_CLASS, ELFCLASS32), std::nullopt);
  EXPECT_EQ(soname_with(EI_DATA, ELFDATA2MSB), std::nullopt);
  EXPECT_EQ(soname_with(offsetof(Elf64_Ehdr, e_machine), EM_386), std::nullopt) << "of another architecture";
  EXPECT_EQ(soname_with(offsetof(Elf64_Ehdr, e_phoff) + 7, '\x7f'), std::nullopt) << "segments at 2^62";
  EXPECT_EQ(soname_with(offsetof(Elf64_Ehdr, e_phnum) + 1, '\x7f'), "libcuda.so.1")
      << "32,000 segments, of which only the first are read";
  const std::string whole = bytes_of(kLibrary);
  for (std::size_t bytes = 0; bytes < whole.size(); bytes += whole.size() / 97 + 1) {
    const auto name = soname_of(file("cut.so", whole.substr(0, bytes)));
    EXPECT_TRUE(!name || *name == "libcuda.so.1") << bytes;
  }
}

TEST_F(CdiImage, ANameThatLeadsOutOfItsDirectoryIsNone) {
  const auto named = [&](const std::string& name) {
    return soname_of(file("named.so", testing::shared_library(name)));
  };
  EXPECT_EQ(named("libcuda.so.1"), "libcuda.so.1");
  EXPECT_EQ(named(std::string(255, 'x')), std::string(255, 'x'));
  for (const std::string& name :
       {std::string(), std::string("."), std::string(".."), std::string("../libc.so.6"), std::string("/etc/passwd"),
        std::string("a b"), std::string("a\nb"), std::string(256, 'x')})
    EXPECT_EQ(named(name), std::nullopt) << name;
}

TEST(CdiLibraryHooks, AreReadAsNvidiasToolWritesThem) {
  const auto read = read_library_hooks(
      {hook({"nvidia-cdi-hook", "create-symlinks", "--link", "libcuda.so.1::/usr/lib64/libcuda.so",
             "--link=../a.so.1::/usr/lib64/gbm/b.so"}),
       hook({"nvidia-ctk", "hook", "update-ldcache", "--folder", "/usr/lib64/", "--folder=/usr/lib64/vdpau"},
            "/usr/bin/nvidia-ctk"),
       hook({"nvidia-cdi-hook", "create-soname-symlinks", "--folder", "/usr/lib64"}),
       hook({"nvidia-cdi-hook", "enable-cuda-compat", "--host-driver-version=575.57.08"}),
       hook({"nvidia-cdi-hook", "disable-device-node-modification"}),
       hook({"nvidia-cdi-hook", "chmod", "--mode", "755"})});
  ASSERT_TRUE(read.ok()) << read.error().message;
  ASSERT_EQ(read->links.size(), 2U);
  EXPECT_EQ(read->links[0].path, "/usr/lib64/libcuda.so");
  EXPECT_EQ(read->links[0].target, "libcuda.so.1");
  EXPECT_EQ(read->links[1].target, "../a.so.1");
  EXPECT_EQ(read->folders, (std::vector<std::string>{"/usr/lib64", "/usr/lib64/vdpau"}));
}

TEST(CdiLibraryHooks, RefuseWhatLeadsElsewhereAndProgramsThatAreNotKnown) {
  const auto refusal = [](const CdiHook& one) {
    const auto read = read_library_hooks({one});
    return read.ok() ? "no refusal" : read.error().message;
  };
  for (const char* link :
       {"a", "a::", "::/b", "a::b", "a::/", "a::/usr/../etc/b", "a::/usr/lib/..", "a::/usr/lib/b::c"})
    EXPECT_NE(refusal(hook({"x", "create-symlinks", "--link", link})).find("TARGET::PATH"), std::string::npos) << link;
  for (const char* folder : {"lib", "/usr/../lib", "/a:/b", ""})
    EXPECT_NE(refusal(hook({"x", "update-ldcache", "--folder", folder})).find("absolute path"), std::string::npos)
        << folder;
  EXPECT_NE(refusal(hook({"nvidia-cdi-hook", "apply-cuda-memory-limits"})).find("--disable-hook"), std::string::npos);
  EXPECT_NE(refusal(hook({"hook", "update-ldcache"}, "/opt/vendor/hook")).find("/opt/vendor/hook hook update-ldcache"),
            std::string::npos);
  std::vector<std::string> many{"x", "create-symlinks"};
  for (int i = 0; i < 1025; ++i) many.push_back("--link=a::/usr/lib/b" + std::to_string(i));
  EXPECT_NE(refusal(hook(many)).find("at most"), std::string::npos);
}

TEST_F(CdiImage, NothingIsLeftOutAndLibrariesHaveTheirNames) {
  const std::string firmware = file("gsp.bin", "firmware");
  CdiEdits edits;
  edits.env = {"NVIDIA_VISIBLE_DEVICES=void"};
  edits.device_nodes.push_back({"/dev/nvidia0", "/dev/null", "", {}, {}, {}, ""});
  edits.mounts.push_back({kLibrary, "/usr/lib/x86_64-linux-gnu/libcuda.so.550.54.15", "", {"ro"}});
  edits.mounts.push_back({"/usr/bin/env", "/usr/bin/env", "", {"ro"}});
  edits.mounts.push_back({firmware, "/lib/firmware/nvidia/550.54.15/gsp.bin", "", {"ro"}});
  edits.hooks = {
      hook({"nvidia-cdi-hook", "create-symlinks", "--link", "libcuda.so.1::/usr/lib/x86_64-linux-gnu/libcuda.so",
            "--link", "../libcuda.so.1::/usr/lib/x86_64-linux-gnu/gbm/nvidia-drm_gbm.so", "--link",
            "../card0::/dev/dri/by-path/pci-0000:01:00.0-card", "--link", "x::/etc/passwd", "--link",
            "other::/usr/lib/x86_64-linux-gnu/libcuda.so.550.54.15"}),
      hook({"nvidia-cdi-hook", "update-ldcache", "--folder", "/usr/lib/x86_64-linux-gnu"})};
  const auto grant = image_grant_of(edits);
  ASSERT_TRUE(grant.ok()) << grant.error().message;
  EXPECT_EQ(grant->mounts.size(), 3U) << "also what the host's /usr would show";
  EXPECT_TRUE(grant->hooks.empty()) << "no program of the host's runs";
  EXPECT_EQ(grant->env.at("NVIDIA_VISIBLE_DEVICES"), "void");
  EXPECT_EQ(grant->library_dirs, std::vector<std::string>{kInsideDriver});
  EXPECT_EQ(target_of(grant->links, "/usr/lib/x86_64-linux-gnu/libcuda.so.1"), "libcuda.so.550.54.15");
  EXPECT_EQ(target_of(grant->links, "/usr/lib/x86_64-linux-gnu/libcuda.so"), "libcuda.so.1");
  EXPECT_EQ(target_of(grant->links, "/usr/lib/x86_64-linux-gnu/gbm/nvidia-drm_gbm.so"), "../libcuda.so.1");
  EXPECT_EQ(target_of(grant->links, "/thaw-driver/libcuda.so.1"), "/usr/lib/x86_64-linux-gnu/libcuda.so.550.54.15");
  EXPECT_EQ(target_of(grant->links, "/thaw-driver/libcuda.so"), "/usr/lib/x86_64-linux-gnu/libcuda.so.1");
  EXPECT_EQ(grant->links.size(), 5U)
      << "nothing below /dev, nothing where nothing is mounted, nothing in the place of a mount";
}

TEST_F(CdiImage, ADirectoryThatIsMountedWholeHasItsOwnLinks) {
  fs::create_directory(temp_.file("lib64"));
  CdiEdits edits;
  edits.mounts.push_back({temp_.file("lib64"), "/usr/local/nvidia/lib64", "", {"ro"}});
  edits.hooks = {hook({"x", "update-ldcache", "--folder", "/usr/local/nvidia/lib64", "--folder", "/usr/lib"}),
                 hook({"x", "create-symlinks", "--link", "a::/usr/local/nvidia/lib64/b.so"})};
  const auto grant = image_grant_of(edits);
  ASSERT_TRUE(grant.ok()) << grant.error().message;
  EXPECT_EQ(grant->library_dirs, std::vector<std::string>{"/usr/local/nvidia/lib64"});
  EXPECT_TRUE(grant->links.empty()) << "none can be made in it";
}

TEST_F(CdiImage, WithoutCdiFilesThereAreNoGpusInImages) {
  GrantSettings settings{false, {temp_.path()}, {"no-driver.so", "no-nvml.so"}};
  EXPECT_TRUE(grant_devices({base::DeviceId("cuda0")}, settings).ok());
  settings.for_image = true;
  EXPECT_TRUE(grant_devices({base::DeviceId("cpu0")}, settings)->empty());
  const auto refused = grant_devices({base::DeviceId("cuda0")}, settings);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind, base::ErrorKind::not_found);
  EXPECT_NE(refused.error().message.find("nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"), std::string::npos)
      << refused.error().message;
  file("nvidia.yaml",
       R"({cdiVersion: 0.6.0, kind: nvidia.com/gpu, devices: [{name: "0", containerEdits: {mounts: [{hostPath: )" +
           kLibrary + R"(, containerPath: /usr/lib/libcuda.so.550, options: [ro]}]}}]})");
  const auto grant = grant_devices({base::DeviceId("cuda0")}, settings);
  ASSERT_TRUE(grant.ok()) << grant.error().message;
  EXPECT_EQ(grant->mounts.size(), 1U);
  EXPECT_EQ(target_of(grant->links, "/usr/lib/libcuda.so.1"), "libcuda.so.550");
}

TEST(DeviceEnvironment, LeadsToTheDriverAfterTheModelsOwnWayAndBeforeTheImages) {
  DeviceGrant grant;
  grant.env = {{"G", "1"}};
  grant.library_dirs = {"/thaw-driver", "/opt/driver"};
  const auto path_with = [&](const std::map<std::string, std::string>& own, std::map<std::string, std::string> env) {
    set_device_environment({base::DeviceId("cuda0")}, grant, own, env);
    EXPECT_EQ(env.at("G"), "1");
    return env.at("LD_LIBRARY_PATH");
  };
  EXPECT_EQ(path_with({}, {}), "/thaw-driver:/opt/driver");
  EXPECT_EQ(path_with({}, {{"LD_LIBRARY_PATH", "/of/image"}}), "/thaw-driver:/opt/driver:/of/image");
  EXPECT_EQ(path_with({{"LD_LIBRARY_PATH", "/own"}}, {{"LD_LIBRARY_PATH", "/own"}}), "/own:/thaw-driver:/opt/driver");
  EXPECT_EQ(path_with({{"LD_LIBRARY_PATH", ""}}, {{"LD_LIBRARY_PATH", ""}}), "/thaw-driver:/opt/driver")
      << "an empty part is the working directory";
  std::map<std::string, std::string> env;
  set_device_environment({base::DeviceId("cpu0")}, {}, {}, env);
  EXPECT_TRUE(env.empty());
}

TEST(DeviceEnvironment, NumbersDevicesAsTheyAreSeenInside) {
  const auto node = [](const char* path) { return GrantedNode{"/dev/null", path, false, 1, 3, "rw"}; };
  DeviceGrant grant;
  grant.nodes = {node("/dev/nvidiactl"), node("/dev/nvidia-uvm"), node("/dev/nvidia5"), node("/dev/nvidia2")};
  const auto visible = [&](std::map<std::string, std::string> own, const DeviceGrant& given) {
    std::map<std::string, std::string> env{{"CUDA_VISIBLE_DEVICES", "5,2"}};
    set_device_environment({base::DeviceId("cuda5"), base::DeviceId("cuda2")}, given, own, env);
    return env.at("CUDA_VISIBLE_DEVICES");
  };
  EXPECT_EQ(visible({}, grant), "1,0") << "two devices are open: CUDA calls them 0 and 1";
  EXPECT_EQ(visible({{"CUDA_VISIBLE_DEVICES", "5,2"}}, grant), "5,2") << "the model's own";
  EXPECT_EQ(visible({}, {}), "5,2") << "without their files nothing is known";
  grant.nodes.push_back(node("/dev/nvidia7"));
  EXPECT_EQ(visible({}, grant), "5,2") << "more are open";
}

}  // namespace
}  // namespace thaw::node
