#include <gtest/gtest.h>
#include <sys/wait.h>

#include "unit/node/weights_files.h"

namespace thaw::node::test {
namespace {

constexpr std::uint64_t kPageBytes = 4096;

bool kernel_has_cachestat(const std::string& file) { return resident_bytes_of(file, ResidencyCall::cachestat) != UINT64_MAX; }

void touch(const std::string& path, std::uint64_t offset) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_RANDOM);  // no readahead: this page alone
  char byte = 0;
  ASSERT_EQ(::pread(fd.get(), &byte, 1, static_cast<off_t>(offset)), 1);
}

class Residency : public ::testing::Test {
 protected:
  DiskDirectory directory_;
};

TEST_F(Residency, BothWaysOfAskingAgreeOnColdPartlyResidentAndResidentFiles) {
  const std::string file = write_weights(directory_ / "weights", 17 * kPageBytes + 100);
  ASSERT_FALSE(file.empty());
  EXPECT_EQ(resident_bytes_of(file, ResidencyCall::mincore), 17 * kPageBytes + 100) << "just written";
  if (!make_cold(file)) GTEST_SKIP() << "/var/tmp is no disk";
  EXPECT_EQ(resident_bytes_of(file, ResidencyCall::mincore), 0U);

  touch(file, 5 * kPageBytes);
  const std::uint64_t partly = resident_bytes_of(file, ResidencyCall::mincore);
  EXPECT_GE(partly, kPageBytes);
  EXPECT_LT(partly, 17 * kPageBytes);
  if (kernel_has_cachestat(file)) {
    EXPECT_EQ(resident_bytes_of(file, ResidencyCall::cachestat), partly);
  }
  EXPECT_EQ(resident_bytes_of(file), partly);
}

TEST_F(Residency, LooksAtTheRangeOnly) {
  const std::string file = write_weights(directory_ / "weights", 16 * kPageBytes);
  if (!make_cold(file)) GTEST_SKIP() << "/var/tmp is no disk";
  touch(file, 0);
  const Fd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  for (const ResidencyCall call : {ResidencyCall::best, ResidencyCall::mincore}) {
    EXPECT_EQ(resident_bytes(fd.get(), 0, kPageBytes, call), kPageBytes);
    EXPECT_EQ(resident_bytes(fd.get(), 8 * kPageBytes, 8 * kPageBytes, call), 0U);
    EXPECT_EQ(resident_bytes(fd.get(), 0, 0, call), 0U) << "of nothing, not of the whole file";
  }
}

TEST_F(Residency, BiggerThanOneCallOfMincore) {
  const std::string file = write_hole(directory_ / "hole", 40ULL << 20);
  EXPECT_EQ(resident_bytes_of(file, ResidencyCall::mincore), 0U);
  const Fd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  std::vector<char> buffer(40ULL << 20);
  ASSERT_EQ(::pread(fd.get(), buffer.data(), buffer.size(), 0), static_cast<ssize_t>(buffer.size()));
  EXPECT_EQ(resident_bytes_of(file, ResidencyCall::mincore), 40ULL << 20);
}

// mincore says "all there" to users who do not own the file; that must not pass for an answer.
TEST_F(Residency, KnowsWhenTheKernelKeepsQuiet) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become somebody else";
  const std::string file = write_weights(directory_ / "weights", kPageBytes);
  const Fd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setresuid(65534, 65534, 65534) != 0) ::_exit(2);
    const bool quiet = !resident_bytes(fd.get(), 0, kPageBytes) && !resident_bytes(fd.get(), 0, kPageBytes, ResidencyCall::mincore);
    ::_exit(quiet ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace thaw::node::test
