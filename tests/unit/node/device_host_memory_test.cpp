#include "node/device/host_memory.h"

#include <gtest/gtest.h>

#include "node/device/devices.h"
#include "unit/node/gguf_builder.h"

namespace thaw::node {
namespace {

using testing::TemporaryDirectory;
using testing::write_file;

class HostMemoryTest : public ::testing::Test {
 protected:
  HostMemoryTest() {
    write_file(root_ / "proc/meminfo", "MemTotal:       1000 kB\nMemFree:   1 kB\nMemAvailable:   600 kB\n");
    write_file(root_ / "proc/cpuinfo", "processor\t: 0\nmodel name\t: A Fine CPU\n");
  }
  HostMemory read() { return read_host_memory(root_.path()); }
  TemporaryDirectory root_;
};

TEST(HostShares, AreOfFourFifthsUnlessSetByHand) {
  const auto shares = [](bool gpus, std::optional<std::uint64_t> cpu, std::optional<std::uint64_t> gpu) {
    const HostShares divided = divide_host_memory(1000, gpus, cpu, gpu);
    return std::pair(divided.cpu_bytes, divided.gpu_bytes);
  };
  using Pair = std::pair<std::uint64_t, std::uint64_t>;
  EXPECT_EQ(shares(false, {}, {}), Pair(800, 0));
  EXPECT_EQ(shares(false, 900, 500), Pair(900, 0)) << "nobody is on a GPU";
  EXPECT_EQ(shares(true, {}, {}), Pair(400, 400));
  EXPECT_EQ(shares(true, 100, {}), Pair(100, 700));
  EXPECT_EQ(shares(true, {}, 100), Pair(700, 100));
  EXPECT_EQ(shares(true, 900, {}), Pair(900, 0));
  EXPECT_EQ(shares(true, {}, 900), Pair(0, 900));
  EXPECT_EQ(shares(true, 5000, 5000), Pair(1000, 1000)) << "no more than there is";
}

TEST_F(HostMemoryTest, WithoutALimitItIsTheMachines) {
  EXPECT_EQ(read().total_bytes, 1'024'000U);
  EXPECT_EQ(read().available_bytes, 614'400U);
  EXPECT_EQ(read().usable_bytes(), 1'024'000U);
  EXPECT_EQ(cpu_name(root_.path()), "A Fine CPU");
}

TEST_F(HostMemoryTest, TakesTheLowestLimitUpTheUnifiedHierarchy) {
  write_file(root_ / "proc/self/cgroup", "0::/a/b\n");
  write_file(root_ / "proc/self/mountinfo", "30 20 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n");
  write_file(root_ / "sys/fs/cgroup/a/memory.max", "500000\n");
  write_file(root_ / "sys/fs/cgroup/a/b/memory.max", "max\n");
  EXPECT_EQ(read().usable_bytes(), 500'000U);
  write_file(root_ / "sys/fs/cgroup/a/b/memory.max", "400000\n");
  EXPECT_EQ(read().usable_bytes(), 400'000U);
  write_file(root_ / "sys/fs/cgroup/a/memory.max", "9000000000\n");
  write_file(root_ / "sys/fs/cgroup/a/b/memory.max", "9000000000\n");
  EXPECT_EQ(read().usable_bytes(), 1'024'000U);
}

TEST_F(HostMemoryTest, ReadsVersionOneAlsoFromInsideAContainer) {
  write_file(root_ / "proc/self/cgroup", "9:memory:/docker/abc/sub\n3:cpu,cpuacct:/other\n0::/\n");
  write_file(root_ / "proc/self/mountinfo",
             "30 20 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
             "31 20 0:27 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
  write_file(root_ / "sys/fs/cgroup/memory/memory.limit_in_bytes", "300000\n");
  write_file(root_ / "sys/fs/cgroup/memory/sub/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(read().usable_bytes(), 300'000U);
}

TEST(HostMemory, OfThisMachineIsThere) {
  const HostMemory memory = read_host_memory();
  EXPECT_GT(memory.total_bytes, 64ULL << 20);
  EXPECT_GT(memory.available_bytes, 0U);
  EXPECT_LE(memory.usable_bytes(), memory.total_bytes);
  EXPECT_FALSE(cpu_name().empty());
}

}  // namespace
}  // namespace thaw::node
