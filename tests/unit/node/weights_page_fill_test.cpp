#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>

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

TEST_F(PageFill, TheSmallestOfManyHasHalfOfTheDisk) {
  std::vector<std::string> huge;
  for (int i = 0; i < 6; ++i) huge.push_back(write_hole(directory_ / ("huge" + std::to_string(i)), 96 * kMiB));
  const std::string small = write_hole(directory_ / "small", 16 * kMiB);
  PageFiller filler(1);
  // However fast the worker and slow this thread, one of many small ones must come while most of the huge ones is still to be read.
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    bool cold = make_cold(small);
    for (const std::string& file : huge) cold = make_cold(file) && cold;
    ASSERT_TRUE(cold);
    std::vector<FillHandle> fills;
    for (const std::string& file : huge) fills.push_back(filler.fill({file}));
    std::uint64_t read_before = 0;
    std::atomic<std::uint64_t> read_after{0};
    const FillHandle small_fill = filler.fill({small}, [&](const FillProgress&) { read_after = filler.totals().read_bytes; });
    read_before = filler.totals().read_bytes;
    ASSERT_TRUE(eventually([&] { return read_after > 0; }));
    for (const FillHandle& fill : fills) ASSERT_TRUE(ends(fill));
    if (read_before > 64 * kMiB) continue;
    EXPECT_LE(read_after - read_before, 2 * 16 * kMiB + 4 * PageFiller::kChunkBytes);
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
  ASSERT_TRUE(ends(nothing));
  EXPECT_EQ(nothing.progress().total_bytes, 0U);
  EXPECT_TRUE(filler.fill({}).progress().done);
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

/// A memory that can be waited for and held up: the survey of a fill asks for it, on the filler's thread.
class SlowMemory {
 public:
  std::uint64_t operator()() {
    std::unique_lock lock(mutex_);
    ++asked_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
    return UINT64_MAX;
  }
  void wait_asked() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return asked_ > 0; });
  }
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int asked_ = 0;
  bool open_ = false;
};

TEST_F(PageFill, WhoWantsTheSameFilesJoinsTheFill) {
  const std::string file = write_hole(directory_ / "wanted-twice", 8 * kMiB);
  SlowMemory memory;
  std::atomic<int> told{0};
  const auto count = [&told](const FillProgress& progress) { told += progress.done && progress.read_bytes == 8 * kMiB ? 1 : 100; };
  PageFiller filler(1, std::ref(memory));
  FillHandle first = filler.fill({file}, count);
  FillHandle second = filler.fill({file}, count);
  EXPECT_EQ(filler.totals().under_way, 1U);
  {
    const FillHandle third = filler.fill({file}, count);  // gives up: the others still want it
  }
  first.cancel();
  EXPECT_TRUE(first.progress().done);
  EXPECT_FALSE(second.progress().done);
  memory.open();
  ASSERT_TRUE(ends(second));
  EXPECT_TRUE(eventually([&] { return told == 1; }));
  EXPECT_EQ(second.progress().read_bytes, 8 * kMiB);
  EXPECT_EQ(filler.totals().read_bytes, 8 * kMiB);
  EXPECT_EQ(filler.totals().under_way, 0U);

  // A fill that is over is not joined: the next one looks again.
  const FillHandle again = filler.fill({file}, [&told](const FillProgress&) { ++told; });
  ASSERT_TRUE(ends(again));
  EXPECT_TRUE(eventually([&] { return told == 2; }));
  EXPECT_EQ(again.progress().read_bytes, 0U);
  EXPECT_EQ(filler.totals().resident_bytes, 8 * kMiB);
}

TEST_F(PageFill, AFillThatNobodyWantsAnyMoreTellsNobody) {
  const std::string file = write_hole(directory_ / "unwanted", 8 * kMiB);
  const std::string next = write_hole(directory_ / "next", kMiB);
  SlowMemory memory;
  std::atomic<int> told{0};
  PageFiller filler(1, std::ref(memory));
  FillHandle fill = filler.fill({file}, [&told](const FillProgress&) { ++told; });
  memory.wait_asked();
  fill.cancel();
  EXPECT_EQ(filler.totals().under_way, 0U);
  memory.open();
  const FillHandle after = filler.fill({next});  // by the one worker, after the other
  ASSERT_TRUE(ends(after));
  EXPECT_EQ(told, 0);
  EXPECT_EQ(filler.totals().read_bytes, kMiB);
  EXPECT_EQ(resident_bytes_of(file), 0U);
}

TEST_F(PageFill, FillsAtTheSameTimeShareTheMemoryThereIs) {
  const std::string one = write_hole(directory_ / "one", 64 * kMiB);
  const std::string other = write_hole(directory_ / "other", 64 * kMiB);
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    ASSERT_TRUE(make_cold(one) && make_cold(other));
    PageFiller filler(1, [] { return 70 * kMiB; });
    const FillHandle first = filler.fill({one});
    const FillHandle second = filler.fill({other});
    ASSERT_TRUE(ends(first) && ends(second));
    EXPECT_EQ(first.progress().read_bytes, 64 * kMiB);
    EXPECT_EQ(filler.totals().left_bytes, second.progress().left_bytes);
    if (second.progress().left_bytes == 0) continue;  // the first had hardly anything left to read
    EXPECT_LT(second.progress().read_bytes, 64 * kMiB);
    return;
  }
  ADD_FAILURE() << "the second one took what the first was promised, every time";
}

}  // namespace
}  // namespace thaw::node::test
