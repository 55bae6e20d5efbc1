#include <gtest/gtest.h>
#include <sys/stat.h>

#include "node/weights/page_fill.h"
#include "unit/node/agent_harness.h"
#include "unit/node/weights_files.h"

namespace thaw::node::test {
namespace {

constexpr std::uint64_t kMiB = 1ULL << 20;
constexpr int kAttempts = 100;

bool ends(const FillHandle& fill) {
  return eventually([&] { return fill.progress().done; });
}

class PageFill : public ::testing::Test {
 protected:
  std::string cold_file(const std::string& name, std::uint64_t bytes) {
    const std::string path = write_weights(directory_ / name, bytes);
    EXPECT_FALSE(path.empty());
    cold_ = make_cold(path) && cold_;
    return path;
  }

  DiskDirectory directory_;
  bool cold_ = true;
};

TEST_F(PageFill, BringsEveryPageOfEveryFileIn) {
  const std::vector<std::string> files{cold_file("1", 5 * kMiB + 123), cold_file("2", 1), cold_file("3", PageFiller::kChunkBytes)};
  if (!cold_) GTEST_SKIP() << "/var/tmp is no disk";
  PageFiller filler(3);
  const FillHandle fill = filler.fill(files);
  ASSERT_TRUE(ends(fill));

  const std::uint64_t total = 5 * kMiB + 123 + 1 + PageFiller::kChunkBytes;
  std::uint64_t resident = 0;
  for (const std::string& file : files) resident += resident_bytes_of(file, ResidencyCall::mincore);
  EXPECT_EQ(resident, total);
  const FillProgress progress = fill.progress();
  EXPECT_EQ(progress.total_bytes, total);
  EXPECT_EQ(progress.read_bytes, total);
  EXPECT_EQ(progress.resident_bytes, 0U);
  EXPECT_EQ(progress.left_bytes, 0U);
  EXPECT_LT(progress.first_read, progress.last_read);
  EXPECT_GT(progress.bytes_per_s(), 0.0);
}

TEST_F(PageFill, ReadsNothingThatIsThere) {
  const std::string file = write_weights(directory_ / "warm", 9 * kMiB);
  PageFiller filler;
  const FillHandle fill = filler.fill({file});
  ASSERT_TRUE(ends(fill));
  EXPECT_EQ(fill.progress().read_bytes, 0U);
  EXPECT_EQ(fill.progress().resident_bytes, 9 * kMiB);
  EXPECT_EQ(fill.progress().bytes_per_s(), 0.0);
}

TEST_F(PageFill, ReadsWhatIsMissing) {
  const std::string file = cold_file("partly", 16 * kMiB);
  if (!cold_) GTEST_SKIP() << "/var/tmp is no disk";
  std::vector<char> half(8 * kMiB);
  const Fd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_EQ(::pread(fd.get(), half.data(), half.size(), 0), static_cast<ssize_t>(half.size()));

  PageFiller filler;
  const FillHandle fill = filler.fill({file});
  ASSERT_TRUE(ends(fill));
  EXPECT_GE(fill.progress().resident_bytes, 8 * kMiB);
  EXPECT_EQ(fill.progress().resident_bytes + fill.progress().read_bytes, 16 * kMiB);
  EXPECT_EQ(resident_bytes_of(file), 16 * kMiB);
}

TEST_F(PageFill, ASmallModelIsNotStuckBehindAHugeOne) {
  const std::string huge = write_hole(directory_ / "huge", 256 * kMiB);
  const std::string small = write_hole(directory_ / "small", 4 * kMiB);
  PageFiller filler(1);
  // However fast the worker and slow this thread, one of many small ones must come while most of the huge one is still to be read.
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    ASSERT_TRUE(make_cold(huge) && make_cold(small));
    const FillHandle huge_fill = filler.fill({huge});
    const FillHandle small_fill = filler.fill({small});
    const bool in_time = huge_fill.progress().read_bytes < 128 * kMiB;
    ASSERT_TRUE(ends(huge_fill) && ends(small_fill));
    if (!in_time) continue;
    EXPECT_EQ(small_fill.progress().read_bytes, 4 * kMiB);
    EXPECT_LT(small_fill.progress().last_read, huge_fill.progress().last_read) << "one after the other";
    return;
  }
  ADD_FAILURE() << "the small one was late every time";
}

TEST_F(PageFill, StopsWhenCancelled) {
  const std::string file = write_hole(directory_ / "huge", 256 * kMiB);
  PageFiller filler(1);
  // However fast the worker and slow this thread, one of many must be cut short.
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    ASSERT_TRUE(make_cold(file));
    FillHandle fill = filler.fill({file});
    fill.cancel();
    ASSERT_TRUE(ends(fill));
    const std::uint64_t read = fill.progress().read_bytes;
    if (read == 256 * kMiB) continue;
    EXPECT_LE(resident_bytes_of(file), read + 64 * kMiB) << "readahead aside, nothing comes in afterwards";
    return;
  }
  ADD_FAILURE() << "no fill was cut short";
}

TEST_F(PageFill, ADroppedHandleLeavesTheWorkersToOthers) {
  const std::string dropped = write_hole(directory_ / "dropped", 64 * kMiB);
  const std::string wanted = write_hole(directory_ / "wanted", 4 * kMiB);
  PageFiller filler(1);
  { const FillHandle fill = filler.fill({dropped}); }
  const FillHandle fill = filler.fill({wanted});
  ASSERT_TRUE(ends(fill));
  EXPECT_EQ(resident_bytes_of(wanted), 4 * kMiB);
}

TEST_F(PageFill, TakesNoMoreMemoryThanThereIs) {
  const std::string file = write_hole(directory_ / "bigger-than-memory", 64 * kMiB);
  PageFiller filler(2, [] { return 10 * kMiB; });
  const FillHandle fill = filler.fill({file});
  ASSERT_TRUE(ends(fill));
  const FillProgress progress = fill.progress();
  EXPECT_EQ(progress.read_bytes, 10 * kMiB);
  EXPECT_EQ(progress.left_bytes, 54 * kMiB);
}

TEST_F(PageFill, ManyAtOnceAllEnd) {
  PageFiller filler(4);
  std::vector<FillHandle> fills;
  for (int i = 0; i < 40; ++i) fills.push_back(filler.fill({write_hole(directory_ / std::to_string(i), 3 * kMiB), write_hole(directory_ / ("b" + std::to_string(i)), 1)}));
  for (const FillHandle& fill : fills) {
    ASSERT_TRUE(ends(fill));
    EXPECT_EQ(fill.progress().read_bytes, 3 * kMiB + 1);
  }
}

TEST_F(PageFill, WhatIsNoFileIsLeftOut) {
  const std::string fifo = directory_ / "fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  const std::string empty = write_hole(directory_ / "empty", 0);
  PageFiller filler;
  const FillHandle nothing = filler.fill({directory_ / "missing", fifo, empty, directory_ / "."});
  EXPECT_TRUE(nothing.progress().done);
  EXPECT_EQ(nothing.progress().total_bytes, 0U);
  EXPECT_TRUE(FillHandle().progress().done);

  const FillHandle something = filler.fill({directory_ / "missing", write_hole(directory_ / "file", kMiB)});
  ASSERT_TRUE(ends(something));
  EXPECT_EQ(something.progress().read_bytes, kMiB);
}

TEST_F(PageFill, AFileThatIsCutShortOrTakenAwayMeanwhileEndsTheFill) {
  const std::string file = write_hole(directory_ / "cut", 256 * kMiB);
  const std::string gone = write_hole(directory_ / "gone", 4 * kMiB);
  PageFiller filler(1);
  const FillHandle busy = filler.fill({file});
  const FillHandle cut = filler.fill({file, gone});
  ASSERT_EQ(::truncate(file.c_str(), kMiB), 0);
  std::filesystem::remove(gone);
  EXPECT_TRUE(ends(busy) && ends(cut));
}

TEST_F(PageFill, AHandleMayOutliveItsFiller) {
  const std::string file = write_hole(directory_ / "huge", 256 * kMiB);
  FillHandle fill;
  {
    PageFiller filler;
    fill = filler.fill({file});
  }
  EXPECT_TRUE(fill.progress().done);
}

TEST_F(PageFill, AFillThatIsOverHoldsNoDescriptors) {
  const std::string file = write_hole(directory_ / "held", 8 * kMiB);
  PageFiller filler;
  const FillHandle fill = filler.fill({file});
  ASSERT_TRUE(ends(fill));
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;  // the iterator's own descriptor
    EXPECT_NE(std::filesystem::read_symlink(entry.path(), gone).string(), file);
  }
}

}  // namespace
}  // namespace thaw::node::test
