/// gVisor sandboxes by themselves: what an engine inside can reach, and what is left of one.
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include <fmt/format.h>

#include "node/limits.h"
#include "node/sandbox/files.h"
#include "node/sandbox/mounts.h"
#include "node/sandbox/network.h"
#include "node/sandbox/pipes.h"
#include "node/sandbox/runsc.h"
#include "unit/node/agent_harness.h"

namespace thaw::node::test {
namespace {

namespace fs = std::filesystem;

TEST(RunscInfo, ReadsFlagsOutOfHelpTexts) {
  const std::string help =
      "checkpoint [flags] <container id> - save current state of container.\n"
      "  -compression value\n    \tcompress checkpoint image on disk.\n"
      "  -image-path string\n    \tdirectory path to saved container image -not-a-flag\n"
      "  --long=1\n";
  EXPECT_EQ(listed_flags(help), (std::set<std::string>{"compression", "image-path", "long"}));
}

TEST(RunscInfo, UsesWhatTheReleaseHas) {
  RunscInfo info;
  info.path = "/usr/bin/runsc";
  info.platforms = {"ptrace", "kvm"};
  info.flags = {"oci-seccomp"};
  const auto old = info.command("/state");
  EXPECT_EQ(old, (std::vector<std::string>{"/usr/bin/runsc", "--root=/state", "--network=sandbox", "--platform=ptrace",
                                           "--ignore-cgroups", "--oci-seccomp=true"}));
  info.platforms.insert("systrap");
  info.flags.insert({"overlay2", "nvproxy"});
  const auto newer = info.command("/state");
  EXPECT_EQ(newer[3], "--platform=systrap");
  EXPECT_EQ(newer.back(), "--overlay2=none");
  EXPECT_TRUE(info.nvproxy());
}

TEST(RunscInfo, WhatDoesNotRunIsNotUsed) {
  EXPECT_FALSE(examine_runsc_at("/bin/false").ok());
  EXPECT_FALSE(examine_runsc_at("/nowhere/runsc").ok());
}

/// Something of the host's that listens on every address.
class HostListener {
 public:
  HostListener() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(fd_.get(), 64), 0);
    ::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
  }
  [[nodiscard]] std::uint16_t port() const { return port_; }
  [[nodiscard]] static std::vector<std::string> addresses() {
    std::vector<std::string> found{"127.0.0.1"};
    ifaddrs* all = nullptr;
    if (::getifaddrs(&all) != 0) return found;
    for (const ifaddrs* one = all; one != nullptr; one = one->ifa_next) {
      if (one->ifa_addr == nullptr || one->ifa_addr->sa_family != AF_INET) continue;
      std::array<char, INET_ADDRSTRLEN> text{};
      ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(one->ifa_addr)->sin_addr, text.data(), text.size());
      found.emplace_back(text.data());
    }
    ::freeifaddrs(all);
    return found;
  }

 private:
  Fd fd_;
  std::uint16_t port_ = 0;
};

class RunscSandbox : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = cannot_sandbox(spec::SandboxKind::runsc); !why.empty()) GTEST_SKIP() << why;
    home_.directory = directory_.path();
    home_.label = "test-" + label_of(directory_.path());
    home_.init_path = std::string(THAW_BINARY_DIR) + "/thaw-init";
    home_.uid_base = 524'288;
    auto cgroups = CgroupHost::detect();
    ASSERT_TRUE(cgroups.ok()) << cgroups.error().message;
    home_.cgroups = *cgroups;
    ::chmod(home_.directory.c_str(), 0755);
    fs::create_directory(directory_.path() + "/models");
    model_ = write_tiny_model(directory_.path() + "/models");
    auto opened = RunscMaker::open(home_);
    ASSERT_TRUE(opened.ok()) << opened.error().message;
    maker_ = *std::move(opened);
  }
  void TearDown() override {
    if (!maker_) return;
    EXPECT_TRUE(home_.cgroups->children(home_.label).empty());
    EXPECT_TRUE(mounts_below(home_.directory).empty());
    EXPECT_TRUE(fs::is_empty(home_.boxes()));
    home_.cgroups->remove_parent(home_.label);
  }

  std::unique_ptr<Sandbox> make() {
    auto made = maker_->make(base::InstanceId(1), {{model_}, "/usr/bin"});
    EXPECT_TRUE(made.ok()) << made.error().message;
    if (!made.ok()) return nullptr;
    wire::StartInstance command;
    command.model.resources.device_memory_bytes = 64ULL << 20;
    EXPECT_TRUE((*made)->limit(limits_for(command.model, spec::SandboxKind::runsc)).ok());
    return *std::move(made);
  }

  /// What a script says inside, and how it ended.
  std::pair<std::string, Exit> run(Sandbox& sandbox, const std::string& script) {
    const Fd output = sandbox.take_output();
    EXPECT_TRUE(sandbox.run({"/bin/bash", "-c", script}, {{"PATH", "/usr/bin:/bin"}}).ok());
    std::string text;
    EXPECT_TRUE(eventually([&] {
      text += read_available(output.get());
      return sandbox.ended();
    }));
    text += read_available(output.get());
    auto exit = peek_exit(sandbox.pidfd());
    EXPECT_TRUE(exit.ok());
    return {text, sandbox.ending(exit.ok() ? *exit : Exit{})};
  }

  TempDir directory_;
  SandboxHome home_;
  std::string model_;
  std::unique_ptr<RunscMaker> maker_;
};

TEST_F(RunscSandbox, EndsAsItsProgramEnds) {
  for (const auto& [script, wanted] :
       std::vector<std::pair<std::string, std::string>>{{"exit 0", "exit status 0"},
                                                        {"exit 3", "exit status 3"},
                                                        {"kill -SEGV $$", "signal 11 (Segmentation fault)"}}) {
    const auto sandbox = make();
    ASSERT_TRUE(sandbox);
    const auto [text, exit] = run(*sandbox, script);
    EXPECT_EQ(exit.text(), wanted) << text;
    EXPECT_TRUE(sandbox->destroy().ok());
  }
}

TEST_F(RunscSandbox, ReachesNobody) {
  const HostListener listener;
  const auto neighbour = make();
  const auto sandbox = make();
  ASSERT_TRUE(neighbour && sandbox);
  EXPECT_NE(neighbour->socket_path(), sandbox->socket_path());
  std::string script =
      "tried=0; try() { tried=$((tried + 1)); timeout 1 bash -c \"exec 3<>/dev/$1/$2/$3 && echo x >&3 && read -t 0.3 "
      "-u 3; "
      "test -e /proc/self/fd/3\" 2>/dev/null && [ $1 = tcp ] && echo \"reached $2:$3\"; }\n";
  const std::string port = std::to_string(listener.port());
  for (const std::string& address : HostListener::addresses()) script += "try tcp " + address + " " + port + "\n";
  // The node's end of the cable; the addresses that every sandbox has; a way out.
  script += "try tcp 169.254.77.1 " + port + "\ntry tcp 169.254.77.1 22\ntry tcp " + std::string(kInnerAddress) +
            " 8080\ntry tcp 192.0.2.1 80\n";
  script += "echo tried $tried; cat /proc/net/route | tail -n +2\n";
  const auto [text, exit] = run(*sandbox, script);
  const auto tried = HostListener::addresses().size() + 4;
  EXPECT_NE(text.find("tried " + std::to_string(tried)), std::string::npos) << text;
  EXPECT_EQ(text.find("reached"), std::string::npos) << text;
  EXPECT_EQ(text.find("eth0\t00000000"), std::string::npos) << "a default route: " << text;
  std::printf("tried to reach %zu addresses from inside a gVisor sandbox, none answered\n", tried);
}

TEST_F(RunscSandbox, SeesItsOwnFilesAndNoOther) {
  const auto sandbox = make();
  ASSERT_TRUE(sandbox);
  const auto [text, exit] =
      run(*sandbox,
          // No ls: what it asks statx(2) for is more than Debian's release knows.
          "id -u; cd /thaw/model && echo * && cd / && echo *; for f in /thaw/model/x /thaw/model/tiny.gguf /usr/x /x "
          "/thaw/engine/x; do (echo > $f) 2>/dev/null && echo wrote $f; done; echo /root/* /home/* /var/* " +
              directory_.path() +
              "/*; "
              "echo > /tmp/mine && echo tmp is mine; dmesg 2>/dev/null | head -1; cat /proc/self/uid_map; uname -r");
  EXPECT_TRUE(text.starts_with("1000\ntiny.gguf\n")) << text;
  EXPECT_EQ(text.find("wrote"), std::string::npos) << text;
  EXPECT_NE(text.find("tmp is mine"), std::string::npos) << text;
  EXPECT_NE(text.find(" usr"), std::string::npos) << text;
  EXPECT_EQ(text.find("/models"), std::string::npos) << text;
  EXPECT_NE(text.find("4.4.0"), std::string::npos) << "gVisor's own kernel: " << text;
}

TEST_F(RunscSandbox, FiltersSystemCallsInsideToo) {
  const auto sandbox = make();
  ASSERT_TRUE(sandbox);
  // unshare(CLONE_NEWUSER), which gVisor itself would allow.
  const auto [text, exit] = run(*sandbox, "perl -e 'my $r = syscall(272, 0x10000000); print $r, q( ), $!+0, qq(\\n)'");
  EXPECT_EQ(text, "-1 1\n") << "EPERM";
}

TEST_F(RunscSandbox, OnlyItsFileServerIsSomebodyAndNobodyIsRoot) {
  const auto sandbox = make();
  ASSERT_TRUE(sandbox);
  const Fd output = sandbox->take_output();
  ASSERT_TRUE(sandbox->run({"/bin/bash", "-c", "echo up; sleep 1000"}, {{"PATH", "/usr/bin:/bin"}}).ok());
  std::string text;
  ASSERT_TRUE(eventually([&] {
    return (text += read_available(output.get())).find("up") != std::string::npos || sandbox->ended();
  })) << text;
  ASSERT_FALSE(sandbox->ended()) << text;
  int strangers = 0;
  const Cgroup group(home_.cgroups, home_.cgroups->parent_path(home_.label) + "/" + sandbox->name());
  for (const pid_t pid : group.pids()) {
    auto status = read_small_file("/proc/" + std::to_string(pid) + "/status");
    auto command = read_small_file("/proc/" + std::to_string(pid) + "/cmdline");
    if (!status.ok() || !command.ok()) continue;
    const bool confined = status->find("\nSeccomp:\t2") != std::string::npos;
    if (command->find("runsc-sandbox") != std::string::npos || command->find("runsc-gofer") != std::string::npos) {
      ++strangers;
      EXPECT_EQ(status->find("\nUid:\t0\t"), std::string::npos) << *command;
      EXPECT_TRUE(confined) << *command;
    }
  }
  EXPECT_EQ(strangers, 2) << "the sandbox and its file server";
  EXPECT_GT(sandbox->memory_bytes(), 0U);
}

TEST_F(RunscSandbox, OneMadeAheadIsShownItsContentsLater) {
  for (const auto& [script, wanted] : std::vector<std::pair<std::string, std::string>>{
           {"cd /thaw/model && echo *; wc -c < tiny.gguf; test -x /thaw/engine/bash && echo an engine; (echo > x) "
            "2>/dev/null && echo wrote; "
            "test -z \"$(cat)\" && echo nothing to read; exit 5",
            "exit status 5"},
           {"kill -ABRT $$", "signal 6 (Aborted)"}}) {
    auto made = maker_->make_empty();
    ASSERT_TRUE(made.ok()) << made.error().message;
    const std::unique_ptr<Sandbox> sandbox = *std::move(made);
    EXPECT_FALSE(sandbox->ended());
    const auto shown = sandbox->expose({{model_}, "/usr/bin", {}});
    ASSERT_TRUE(shown.ok()) << shown.error().message;
    const auto [text, exit] = run(*sandbox, script);
    EXPECT_EQ(exit.text(), wanted) << text;
    if (wanted != "exit status 5") continue;
    EXPECT_EQ(text, fmt::format("tiny.gguf\n{}\nan engine\nnothing to read\n", fs::file_size(model_)));
  }
}

TEST_F(RunscSandbox, OneMadeAheadThatNobodyNeedsLeavesNothing) {
  auto made = maker_->make_empty();
  ASSERT_TRUE(made.ok()) << made.error().message;
  EXPECT_TRUE((*made)->destroy().ok());
}

TEST_F(RunscSandbox, AGpuWithoutNvproxyIsRefusedWithTheRemedy) {
  if (maker_->info().nvproxy()) GTEST_SKIP() << "this runsc has nvproxy";
  DeviceGrant grant;
  grant.nodes.push_back(*device_node("/dev/null"));
  const auto made = maker_->make(base::InstanceId(1), {{model_}, "/usr/bin", grant});
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().kind, base::ErrorKind::unavailable);
  for (const char* word : {"nvproxy", "runc"})
    EXPECT_NE(made.error().message.find(word), std::string::npos) << made.error().message;
}

TEST_F(RunscSandbox, WhatCannotBeShownLeavesNothing) {
  const auto made = maker_->make(base::InstanceId(1), {{"/nowhere/model.gguf"}, "/usr/bin", {}});
  ASSERT_FALSE(made.ok());
  EXPECT_NE(made.error().message.find("/nowhere/model.gguf"), std::string::npos) << made.error().message;
}

}  // namespace
}  // namespace thaw::node::test
