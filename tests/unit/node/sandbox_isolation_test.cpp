#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "node/sandbox/cgroup.h"
#include "node/sandbox/files.h"
#include "unit/node/agent_harness.h"

/// What a sandboxed engine can see and do, looked at through /proc/<pid>. Each once made ahead and once made for its instance.
namespace thaw::node::test {
namespace {

constexpr std::uint64_t kMiB = 1ULL << 20;

class Isolation : public ::testing::TestWithParam<std::uint32_t> {
 protected:
  void SetUp() override {
    if (const std::string why = cannot_sandbox(); !why.empty()) GTEST_SKIP() << why;
    node = std::make_unique<TestNode>(spec::SandboxKind::runc, GetParam());
    const auto opened = node->open();
    ASSERT_TRUE(opened.ok()) << opened.error().message;
    command = node->start_command();
    command.model.resources.cpus = 0.5;
    command.model.resources.device_memory_bytes = 80 * kMiB;
    node->agent().submit(command);
    const auto ready = node->events().wait<wire::InstanceReady>(command.instance);
    ASSERT_TRUE(ready);
    socket_path = ready->socket_path;
    const auto usage = node->agent().usage(command.instance);
    ASSERT_TRUE(usage.ok());
    pid = static_cast<pid_t>(usage->pid);
    proc = "/proc/" + std::to_string(pid);
  }

  /// The value of one line of /proc/<pid>/status.
  std::string status(const std::string& name) const {
    std::ifstream file(proc + "/status");
    for (std::string line; std::getline(file, line);)
      if (line.starts_with(name + ":")) {
        const std::size_t value = line.find_first_not_of(" \t", name.size() + 1);
        return value == std::string::npos ? "" : line.substr(value);
      }
    return "absent";
  }

  /// One of the engine's control files.
  std::string limit(const std::string& controller, const std::string& file) const {
    const auto host = CgroupHost::detect();
    std::ifstream groups(proc + "/cgroup");  // "4:memory:/thaw/<label>/b1"
    for (std::string line; std::getline(groups, line);) {
      std::istringstream fields(line);
      std::string number;
      std::string controllers;
      std::string path;
      std::getline(fields, number, ':');
      std::getline(fields, controllers, ':');
      std::getline(fields, path);
      if ((*host)->unified() ? number != "0" : ("," + controllers + ",").find("," + controller + ",") == std::string::npos) continue;
      auto text = read_small_file((*host)->mount_of(controller) + path + "/" + file);
      return text.ok() ? text->substr(0, text->find('\n')) : text.error().message;
    }
    return "no such controller";
  }

  std::unique_ptr<TestNode> node;
  wire::StartInstance command;
  std::string socket_path;
  std::string proc;
  pid_t pid = 0;
};

INSTANTIATE_TEST_SUITE_P(Pool, Isolation, ::testing::Values(0, 1),
                         [](const auto& pool) { return std::string(pool.param == 0 ? "made" : "pooled"); });

TEST_P(Isolation, RunsAsAStrangerWithoutRights) {
  struct stat owner {};
  ASSERT_EQ(::stat(proc.c_str(), &owner), 0);
  EXPECT_GE(owner.st_uid, node->config().settings.uid_base);
  EXPECT_EQ(owner.st_uid % 65'536, (node->config().settings.uid_base + 1000) % 65'536);
  for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}) EXPECT_EQ(status(set), "0000000000000000") << set;
  EXPECT_EQ(status("NoNewPrivs"), "1");
  EXPECT_EQ(status("Seccomp"), "2") << "a filter";
  EXPECT_EQ(status("Groups"), "") << "no supplementary group of the host's root";
}

TEST_P(Isolation, ReachesNoNetwork) {
  std::ifstream devices(proc + "/net/dev");
  std::vector<std::string> names;
  for (std::string line; std::getline(devices, line);)
    if (const auto colon = line.find(':'); colon != std::string::npos) names.push_back(line.substr(line.find_first_not_of(' '), colon - line.find_first_not_of(' ')));
  EXPECT_EQ(names, std::vector<std::string>{"lo"});
}

TEST_P(Isolation, SeesItsModelReadOnlyAndNothingElseOfOurs) {
  const std::string root = proc + "/root";
  const std::string model = root + "/thaw/model/tiny.gguf";
  auto inside = read_small_file(model);
  auto outside = read_small_file(node->model_path());
  ASSERT_TRUE(inside.ok()) << inside.error().message;
  EXPECT_EQ(*inside, *outside);
  struct statvfs mount {};
  ASSERT_EQ(::statvfs(model.c_str(), &mount), 0);
  EXPECT_TRUE(mount.f_flag & ST_RDONLY);
  EXPECT_TRUE(mount.f_flag & ST_NOSUID);
  EXPECT_TRUE(mount.f_flag & ST_NODEV);
  EXPECT_TRUE(mount.f_flag & ST_NOEXEC);
  for (const char* read_only : {"/", "/usr", "/thaw/engine", "/thaw/model", "/thaw/init"}) {
    ASSERT_EQ(::statvfs((root + read_only).c_str(), &mount), 0) << read_only;
    EXPECT_TRUE(mount.f_flag & ST_RDONLY) << read_only;
  }
  EXPECT_FALSE(std::filesystem::exists(root + node->data_dir()));
  EXPECT_FALSE(std::filesystem::exists(root + std::filesystem::path(node->model_path()).parent_path().string()));
  for (const char* hidden : {"/root", "/home", "/var", "/run/thaw", "/run/systemd", "/etc/shadow", "/sys/fs"}) EXPECT_FALSE(std::filesystem::exists(root + hidden)) << hidden;
  EXPECT_TRUE(std::filesystem::exists(root + "/dev/null"));
  EXPECT_FALSE(std::filesystem::exists(root + "/dev/vda"));
}

TEST_P(Isolation, SeesOnlyItsOwnProcesses) {
  std::vector<std::string> seen;
  for (const auto& entry : std::filesystem::directory_iterator(proc + "/root/proc"))
    if (const std::string name = entry.path().filename(); name.find_first_not_of("0123456789") == std::string::npos) seen.push_back(name);
  EXPECT_EQ(seen.size(), 2U) << "thaw-init and the engine";
}

TEST_P(Isolation, KeepsItsSocketFromOthers) {
  struct stat directory {};
  ASSERT_EQ(::stat(std::filesystem::path(socket_path).parent_path().c_str(), &directory), 0);
  EXPECT_EQ(directory.st_mode & 0777U, 0700U);
  EXPECT_GE(directory.st_uid, node->config().settings.uid_base);
}

TEST_P(Isolation, HoldsItsLimitsInTheKernel) {
  // 80 MiB of device memory, 256 MiB for the engine, an eighth of 80 as slack (src/node/limits.h).
  const std::string memory = std::to_string((80 + 256 + 10) * kMiB);
  const auto host = CgroupHost::detect();
  ASSERT_TRUE(host.ok());
  EXPECT_EQ(limit("pids", "pids.max"), "512");
  if ((*host)->unified()) {
    EXPECT_EQ(limit("memory", "memory.max"), memory);
    EXPECT_EQ(limit("memory", "memory.swap.max"), "0");
    EXPECT_EQ(limit("cpu", "cpu.max"), "50000 100000");
  } else {
    EXPECT_EQ(limit("memory", "memory.limit_in_bytes"), memory);
    EXPECT_EQ(limit("memory", "memory.memsw.limit_in_bytes"), memory) << "no swap beyond";
    EXPECT_EQ(limit("cpu", "cpu.cfs_quota_us"), "50000");
    EXPECT_EQ(limit("cpu", "cpu.cfs_period_us"), "100000");
  }
}

TEST_P(Isolation, LeavesNoCoreAndIsFirstToGoWhenTheHostRunsOut) {
  auto score = read_small_file(proc + "/oom_score_adj");
  ASSERT_TRUE(score.ok());
  EXPECT_EQ(*score, "500\n");
  auto limits = read_small_file(proc + "/limits");
  ASSERT_TRUE(limits.ok());
  std::istringstream lines(*limits);
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("Max core file size")) {
      EXPECT_NE(line.find(" 0 "), std::string::npos) << line;
    }
}

TEST_P(Isolation, HasAUidRangeOfItsOwn) {
  const auto other = node->start_ready();
  struct stat mine {};
  struct stat theirs {};
  ASSERT_EQ(::stat(proc.c_str(), &mine), 0);
  ASSERT_EQ(::stat(("/proc/" + std::to_string(node->agent().usage(other)->pid)).c_str(), &theirs), 0);
  EXPECT_NE(mine.st_uid / 65'536, theirs.st_uid / 65'536);
}

}  // namespace
}  // namespace thaw::node::test
