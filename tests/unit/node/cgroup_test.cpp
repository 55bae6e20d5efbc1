#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "node/sandbox/cgroup.h"
#include "node/sandbox/files.h"
#include "node/sandbox/io_limit.h"
#include "unit/node/agent_harness.h"
#include "unit/node/fake_cgroup_host.h"

namespace thaw::node::test {
namespace {

namespace fs = std::filesystem;
constexpr std::uint64_t kMiB = 1ULL << 20;

TEST(CgroupHost, V1HasATreeAController) {
  FakeHost fake;
  add_v1(fake);
  const auto host = fake.detect();
  ASSERT_TRUE(host.ok()) << host.error().message;
  EXPECT_FALSE((*host)->unified());
  EXPECT_EQ((*host)->mount_of("cpu"), fake.root() + "/cpu,cpuacct");
  EXPECT_EQ((*host)->mount_of("memory"), fake.root() + "/memory");
  EXPECT_EQ((*host)->mount_of("rdma"), "");
  EXPECT_EQ((*host)->parent_path("ab"), "/thaw/ab");
}

TEST(CgroupHost, HybridLimitsInTheV1Trees) {
  FakeHost fake;
  add_v1(fake);
  fake.mount_v2("/unified", "hugetlb");
  const auto host = fake.detect();
  ASSERT_TRUE(host.ok()) << host.error().message;
  EXPECT_FALSE((*host)->unified());
  EXPECT_EQ((*host)->hierarchies().size(), 4U) << "the v2 tree is cleaned too";
}

TEST(CgroupHost, MissingControllersAreNamedWithTheRemedy) {
  FakeHost fake;
  fake.mount_v1("cpu", "cpu");
  fake.mount_v1("pids", "pids");
  auto host = fake.detect();
  ASSERT_FALSE(host.ok());
  EXPECT_NE(host.error().message.find("\"memory\""), std::string::npos) << host.error().message;
  EXPECT_NE(host.error().message.find("--sandbox=none"), std::string::npos) << host.error().message;

  FakeHost v2;
  v2.mount_v2("", "cpu memory");
  host = v2.detect();
  ASSERT_FALSE(host.ok());
  EXPECT_NE(host.error().message.find("\"pids\""), std::string::npos) << host.error().message;
}

TEST(CgroupHost, V2PassesTheControllersDownToOurGroup) {
  FakeHost fake;
  fake.mount_v2("", "cpuset cpu io memory pids");
  fake.add("/thaw/cgroup.subtree_control");
  fake.add("/thaw/ab/cgroup.subtree_control");
  const auto host = fake.detect();
  ASSERT_TRUE(host.ok()) << host.error().message;
  EXPECT_TRUE((*host)->unified());
  EXPECT_EQ((*host)->parent_path("ab"), "/thaw/ab");
  const auto prepared = (*host)->prepare_parent("ab");
  ASSERT_TRUE(prepared.ok()) << prepared.error().message;
  for (const char* group : {"", "/thaw", "/thaw/ab"})
    EXPECT_EQ(fake.text(std::string(group) + "/cgroup.subtree_control"), "+memory +cpu +pids") << group;
}

TEST(CgroupHost, V2ControllersThatAreRefusedNameTheRemedy) {
  FakeHost fake;
  fake.mount_v2("", "cpu memory pids");
  fs::remove(fake.root() + "/cgroup.subtree_control");  // as if not writable
  const auto host = fake.detect();
  ASSERT_TRUE(host.ok());
  const auto prepared = (*host)->prepare_parent("ab");
  ASSERT_FALSE(prepared.ok());
  EXPECT_NE(prepared.error().message.find("Delegate=yes"), std::string::npos) << prepared.error().message;
}

TEST(CgroupHost, ADelegatedGroupIsOursAndWeMoveIntoALeaf) {
  FakeHost fake;
  fake.mount_v2("", "cpu memory pids");
  const std::string own = "/system.slice/thaw.service";
  fake.add(own + "/cgroup.subtree_control");
  fake.add(own + "/cgroup.procs", "4711\n");
  fake.add(own + "/server/cgroup.procs");
  fake.add(own + "/sandboxes/cgroup.subtree_control");
  fake.add(own + "/sandboxes/ab/cgroup.subtree_control");
  if (::setxattr((fake.root() + own).c_str(), "trusted.delegate", "1", 1, 0) != 0 &&
      ::setxattr((fake.root() + own).c_str(), "user.delegate", "1", 1, 0) != 0)
    GTEST_SKIP() << "this file system keeps no attributes";

  auto host = fake.detect("0::" + own + "\n");
  ASSERT_TRUE(host.ok()) << host.error().message;
  EXPECT_EQ((*host)->parent_path("ab"), own + "/sandboxes/ab");
  const auto prepared = (*host)->prepare_parent("ab");
  ASSERT_TRUE(prepared.ok()) << prepared.error().message;
  EXPECT_EQ(fake.text(own + "/server/cgroup.procs"), "4711");
  EXPECT_EQ(fake.text(own + "/cgroup.subtree_control"), "+memory +cpu +pids");
  EXPECT_EQ(fake.text(own + "/sandboxes/ab/cgroup.subtree_control"), "+memory +cpu +pids");
  EXPECT_EQ(fake.text("/cgroup.subtree_control"), "") << "what is above is the host's";

  host = fake.detect("0::" + own + "/server\n");
  ASSERT_TRUE(host.ok());
  EXPECT_EQ((*host)->parent_path("ab"), own + "/sandboxes/ab") << "seen from the leaf";
}

TEST(Cgroup, SetsLimitsOnV2) {
  FakeHost fake;
  fake.mount_v2("", "cpu memory pids");
  for (const char* file : {"memory.max", "memory.swap.max", "memory.oom.group", "pids.max", "cpu.max"})
    fake.add(std::string("/thaw/ab/b1/") + file);
  const auto host = fake.detect();
  ASSERT_TRUE(host.ok());
  const Cgroup group(*host, "/thaw/ab/b1");
  const auto limited = group.limit({.memory_bytes = 64 * kMiB, .pids = 100, .cpus = 1.5});
  ASSERT_TRUE(limited.ok()) << limited.error().message;
  EXPECT_EQ(fake.text("/thaw/ab/b1/memory.max"), "67108864");
  EXPECT_EQ(fake.text("/thaw/ab/b1/memory.swap.max"), "0");
  EXPECT_EQ(fake.text("/thaw/ab/b1/memory.oom.group"), "1");
  EXPECT_EQ(fake.text("/thaw/ab/b1/pids.max"), "100");
  EXPECT_EQ(fake.text("/thaw/ab/b1/cpu.max"), "150000 100000");
  fs::remove(fake.root() + "/thaw/ab/b1/memory.max");
  EXPECT_FALSE(group.limit({.memory_bytes = 64 * kMiB, .pids = 100, .cpus = {}}).ok())
      << "a limit that cannot be set is no limit";
}

TEST(Cgroup, SetsLimitsOnV1) {
  FakeHost fake;
  add_v1(fake);
  for (const char* file : {"memory/t/memory.limit_in_bytes", "memory/t/memory.swappiness", "pids/t/pids.max",
                           "cpu,cpuacct/t/cpu.cfs_quota_us", "cpu,cpuacct/t/cpu.cfs_period_us"})
    fake.add(std::string("/") + file);
  const auto host = fake.detect();
  ASSERT_TRUE(host.ok());
  const Cgroup group(*host, "/t");
  ASSERT_TRUE(group.limit({.memory_bytes = 64 * kMiB, .pids = 100, .cpus = 0.001}).ok());
  EXPECT_EQ(fake.text("/memory/t/memory.limit_in_bytes"), "67108864");
  EXPECT_EQ(fake.text("/memory/t/memory.swappiness"), "0") << "no swap accounting here";
  EXPECT_EQ(fake.text("/cpu,cpuacct/t/cpu.cfs_quota_us"), "1000") << "the kernel's least";
  fake.add("/memory/t/memory.memsw.limit_in_bytes");
  ASSERT_TRUE(group.limit({.memory_bytes = 32 * kMiB, .pids = 100, .cpus = {}}).ok());
  EXPECT_EQ(fake.text("/memory/t/memory.memsw.limit_in_bytes"), "33554432");
}

TEST(Cgroup, LimitsWritesWhereTheHostLimitsIo) {
  const IoLimit limit{"253:0", 128 * kMiB};
  FakeHost v2;
  v2.mount_v2("", "cpu io memory pids");
  EXPECT_TRUE(limit_writes(**v2.detect(), "/t", limit).ok()) << "the controller was not passed down: no limit";
  v2.add("/t/io.max");
  ASSERT_TRUE(limit_writes(**v2.detect(), "/t", limit).ok());
  EXPECT_EQ(v2.text("/t/io.max"), "253:0 wbps=134217728");
  FakeHost v1;
  add_v1(v1);
  EXPECT_TRUE(limit_writes(**v1.detect(), "/t", limit).ok());
  v1.mount_v1("blkio", "blkio");
  v1.add("/blkio/t/blkio.throttle.write_bps_device");
  ASSERT_TRUE(limit_writes(**v1.detect(), "/t", limit).ok());
  EXPECT_EQ(v1.text("/blkio/t/blkio.throttle.write_bps_device"), "253:0 134217728");
}

TEST(Cgroup, ADiskHasItsNumberAndSoHaveItsPartitions) {
  TempDir host;
  fs::create_directories(host.path() + "/devices/vda/vda1");
  fs::create_directories(host.path() + "/dev/block");
  std::ofstream(host.path() + "/devices/vda/dev") << "253:0\n";
  std::ofstream(host.path() + "/devices/vda/vda1/dev") << "253:1\n";
  std::ofstream(host.path() + "/devices/vda/vda1/partition") << "1\n";
  fs::create_symlink("../../devices/vda", host.path() + "/dev/block/253:0");
  fs::create_symlink("../../devices/vda/vda1", host.path() + "/dev/block/253:1");
  EXPECT_EQ(disk_number_of_device(makedev(253, 0), host.path()), "253:0");
  EXPECT_EQ(disk_number_of_device(makedev(253, 1), host.path()), "253:0");
  EXPECT_EQ(disk_number_of_device(makedev(0, 42), host.path()), std::nullopt);
  EXPECT_EQ(disk_number_of("/proc"), std::nullopt);
}

TEST(Cgroup, ReadsUsageAndOomKillsOnBoth) {
  FakeHost v2;
  v2.mount_v2("", "cpu memory pids");
  v2.add("/t/memory.current", "4096\n");
  v2.add("/t/memory.events", "low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\n");
  const Cgroup new_style(*v2.detect(), "/t");
  EXPECT_EQ(new_style.memory_bytes(), 4096U);
  EXPECT_EQ(new_style.oom_kills(), 1U);
  FakeHost v1;
  add_v1(v1);
  v1.add("/memory/t/memory.usage_in_bytes", "8192\n");
  v1.add("/memory/t/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n");
  const Cgroup old_style(*v1.detect(), "/t");
  EXPECT_EQ(old_style.memory_bytes(), 8192U);
  EXPECT_EQ(old_style.oom_kills(), 3U);
  EXPECT_EQ(Cgroup(*v1.detect(), "/absent").oom_kills(), 0U);
}

TEST(Cgroup, ReclaimsInTheWayOfEachVersionAndNeverSwaps) {
  FakeHost v2;
  v2.mount_v2("", "cpu memory pids");
  EXPECT_EQ(Cgroup(*v2.detect(), "/t").reclaim(4096).error().kind, base::ErrorKind::not_found);
  v2.add("/t/memory.reclaim");
  EXPECT_TRUE(Cgroup(*v2.detect(), "/t").reclaim(4096).ok());
  EXPECT_EQ(v2.text("/t/memory.reclaim"), "4096");
  FakeHost v1;
  add_v1(v1);
  v1.add("/memory/t/memory.swappiness", "60");
  v1.add("/memory/t/memory.force_empty");
  EXPECT_TRUE(Cgroup(*v1.detect(), "/t").reclaim(4096).ok());
  EXPECT_EQ(v1.text("/memory/t/memory.swappiness"), "0");
  EXPECT_EQ(v1.text("/memory/t/memory.force_empty"), "0");
}

TEST(Cgroup, KillsThroughTheKernelsOwnFileOnV2) {
  FakeHost fake;
  fake.mount_v2("", "cpu memory pids");
  fake.add("/t/cgroup.kill");
  Cgroup(*fake.detect(), "/t").kill_all();
  EXPECT_EQ(fake.text("/t/cgroup.kill"), "1");
}

/// On this host, whichever version it has.
TEST(Cgroup, ARealGroupLimitsKillsAndGoes) {
  const auto host = CgroupHost::detect();
  if (::geteuid() != 0 || !host.ok()) GTEST_SKIP() << "needs root and control groups";
  const std::string label = "test-" + std::to_string(::getpid());
  ASSERT_TRUE((*host)->prepare_parent(label).ok());
  const Cgroup group(*host, (*host)->parent_path(label) + "/one");
  ASSERT_TRUE(group.create().ok());
  const auto first = group.limit({.memory_bytes = 512 * kMiB, .pids = 10, .cpus = 0.5});
  EXPECT_TRUE(first.ok()) << first.error().message;
  const auto lowered = group.limit({.memory_bytes = 64 * kMiB, .pids = 10, .cpus = 0.5});
  EXPECT_TRUE(lowered.ok()) << lowered.error().message;
  const auto raised = group.limit({.memory_bytes = 128 * kMiB, .pids = 10, .cpus = 0.5});
  EXPECT_TRUE(raised.ok()) << raised.error().message;

  const pid_t child = ::fork();
  if (child == 0)
    for (;;) ::pause();
  ASSERT_TRUE(group.add(child).ok());
  EXPECT_EQ(group.pids(), std::vector<pid_t>{child});
  EXPECT_EQ((*host)->children(label), std::vector<std::string>{"one"});
  group.kill_all();
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status));
  const auto removed = group.remove(base::Seconds(5));
  EXPECT_TRUE(removed.ok()) << removed.error().message;
  EXPECT_FALSE(group.exists());
  (*host)->remove_parent(label);
  EXPECT_FALSE(Cgroup(*host, (*host)->parent_path(label)).exists());
}

}  // namespace
}  // namespace thaw::node::test
