#include <gtest/gtest.h>

#include <cerrno>

#include "node/weights/page_cache_read.h"
#include "unit/node/weights_files.h"

namespace thaw::node::test {
namespace {

constexpr std::uint64_t kMiB = 1ULL << 20;

class PageCacheReads : public ::testing::TestWithParam<PageCacheWay> {
 protected:
  Fd open(const std::string& path) { return Fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC)); }

  DiskDirectory directory_;
  PageCacheReader reader_{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Ways, PageCacheReads,
                         ::testing::Values(PageCacheWay::best, PageCacheWay::map, PageCacheWay::sendfile),
                         [](const auto& way) {
                           return way.param == PageCacheWay::best  ? "Best"
                                  : way.param == PageCacheWay::map ? "Map"
                                                                   : "Sendfile";
                         });

TEST_P(PageCacheReads, BringsInTheWholeFile) {
  const std::uint64_t bytes = 5 * kMiB + 123;
  const std::string path = write_weights(directory_ / "weights", bytes);
  if (!make_cold(path)) GTEST_SKIP() << "/var/tmp is no disk";
  ASSERT_TRUE(reader_.usable());
  EXPECT_TRUE(reader_.bring_in(open(path).get(), 0, bytes));
  EXPECT_EQ(resident_bytes_of(path, ResidencyCall::mincore), bytes);
}

TEST_P(PageCacheReads, BringsInAPart) {
  const std::string path = write_weights(directory_ / "weights", 64 * kMiB);
  if (!make_cold(path)) GTEST_SKIP() << "/var/tmp is no disk";
  const Fd fd = open(path);
  EXPECT_TRUE(reader_.bring_in(fd.get(), 4 * kMiB, 2 * kMiB));
  EXPECT_EQ(resident_bytes(fd.get(), 4 * kMiB, 2 * kMiB), 2 * kMiB);
  EXPECT_EQ(resident_bytes(fd.get(), 0, 2 * kMiB), 0U) << "nothing in front of it";
  if (GetParam() == PageCacheWay::map) {
    EXPECT_EQ(resident_bytes_of(path), 2 * kMiB) << "and nothing behind it: the kernel does not read on";
  }
}

TEST_P(PageCacheReads, WhatIsThereAlreadyStays) {
  const std::string path = write_weights(directory_ / "weights", 3 * kMiB);
  EXPECT_TRUE(reader_.bring_in(open(path).get(), 0, 3 * kMiB));
  EXPECT_EQ(resident_bytes_of(path), 3 * kMiB);
}

TEST_P(PageCacheReads, AFileThatHasBecomeShorterIsNoFailure) {
  const std::string path = write_weights(directory_ / "weights", 3 * kMiB);
  const Fd fd = open(path);
  ASSERT_EQ(::truncate(path.c_str(), kMiB + 5), 0);
  EXPECT_TRUE(reader_.bring_in(fd.get(), 0, 3 * kMiB));
  EXPECT_TRUE(reader_.bring_in(fd.get(), 2 * kMiB, kMiB)) << "wholly behind the end";
  EXPECT_EQ(resident_bytes_of(path), kMiB + 5);
}

// Most files of sysfs cannot be mapped.
TEST_P(PageCacheReads, WhatCannotBeMappedIsRead) {
  const Fd fd = open("/sys/kernel/notes");
  if (!fd) GTEST_SKIP() << "the kernel has no /sys/kernel/notes";
  EXPECT_TRUE(reader_.bring_in(fd.get(), 0, 36)) << std::generic_category().message(errno);
}

TEST_P(PageCacheReads, SaysWhyItCannot) {
  EXPECT_FALSE(reader_.bring_in(-1, 0, kMiB));
  EXPECT_EQ(errno, EBADF);
  EXPECT_FALSE(reader_.bring_in(open(directory_ / ".").get(), 0, kMiB));
  EXPECT_NE(errno, 0);
  const std::string path = write_weights(directory_ / "weights", kMiB);
  const Fd write_only(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  EXPECT_FALSE(reader_.bring_in(write_only.get(), 0, kMiB));
  EXPECT_EQ(errno, EBADF);
}

}  // namespace
}  // namespace thaw::node::test
