// What comes in any order and at any boundary is written, hashed and written down, with little memory and on any file system.
#include "node/pull/settler.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>

#include <gtest/gtest.h>

#include "node/sandbox/clock.h"
#include "node/sandbox/files.h"
#include "unit/node/noise.h"
#include "unit/temp_dir.h"

namespace thaw::node::pull {
namespace {

constexpr std::uint64_t kMiB = 1ULL << 20;

using test::noise;
using test::sha256_of;

/// A file system of its own, for a test that needs root.
class Mounted {
 public:
  Mounted(std::string path, const char* type, const char* data) : path_(std::move(path)) {
    std::filesystem::create_directories(path_);
    mounted_ = ::mount(type, path_.c_str(), type, 0, data) == 0;
  }
  ~Mounted() {
    if (mounted_) ::umount2(path_.c_str(), MNT_DETACH);
  }
  Mounted(const Mounted&) = delete;
  Mounted& operator=(const Mounted&) = delete;
  explicit operator bool() const { return mounted_; }

 private:
  std::string path_;
  bool mounted_ = false;
};

class SettlerTest : public ::testing::Test {
 protected:
  /// Opens the part in `store_directory`.
  void begin(std::vector<Range> there, Settler::Options options, const std::string& store_directory) {
    store_ = std::make_unique<BlobStore>(store_directory, std::nullopt);
    ASSERT_TRUE(store_->open().ok());
    auto file = PartFile::open(store_->part_path("key"), bytes_.size());
    ASSERT_TRUE(file.ok()) << file.error().message;
    file_ = std::make_unique<PartFile>(*std::move(file));
    for (const Range& range : there) {
      const auto text = bytes_.substr(range.begin, range.bytes());
      ASSERT_EQ(::pwrite(file_->fd(), text.data(), text.size(), static_cast<off_t>(range.begin)), static_cast<ssize_t>(text.size()));
    }
    resume(std::move(there), options);
  }
  void resume(std::vector<Range> there, Settler::Options options) {
    auto settler = Settler::make(*file_, *store_, "key", Journal{"source", bytes_.size(), "\"v1\"", std::move(there)}, options);
    ASSERT_TRUE(settler.ok()) << settler.error().message;
    settler_ = *std::move(settler);
  }
  std::string store_directory() { return directory_.file("store"); }

  /// As a connection brings it: in pieces of odd lengths.
  base::Status bring(Range range, std::size_t piece = 16'383) {
    Block* open = nullptr;
    base::Status status;
    for (std::uint64_t at = range.begin; at < range.end && status.ok(); at += piece)
      status = settler_->take(open, at, std::string_view(bytes_).substr(at, std::min<std::uint64_t>(piece, range.end - at)), range.end);
    settler_->hand_over(open);
    return status;
  }
  void expect_whole() {
    const auto sha256 = settler_->finish(bytes_.size());
    ASSERT_TRUE(sha256.ok()) << sha256.error().message;
    EXPECT_EQ(*sha256, sha256_of(bytes_));
    std::string on_disk(bytes_.size() + 1, '\0');
    std::ifstream(store_->part_path("key"), std::ios::binary).read(on_disk.data(), static_cast<std::streamsize>(on_disk.size()));
    on_disk.pop_back();
    EXPECT_EQ(sha256_of(on_disk), sha256_of(bytes_));
    EXPECT_EQ(std::filesystem::file_size(store_->part_path("key")), bytes_.size());
  }
  std::vector<Range> journal() {
    const auto text = read_small_file(store_->journal_path("key"));
    const auto journal = text.ok() ? parse_journal(*text) : base::Result<Journal>(text.error());
    return journal.ok() ? journal->ranges : std::vector<Range>();
  }

  const test::TempDir directory_;
  std::string bytes_ = noise(12 * kMiB + 12'345);
  std::unique_ptr<BlobStore> store_;
  std::unique_ptr<PartFile> file_;
  std::unique_ptr<Settler> settler_;
};

TEST_F(SettlerTest, WritesAndHashesWhatComesInAnyOrder) {
  begin({}, {}, store_directory());
  for (const Range& range : {Range{8 * kMiB, 12 * kMiB + 12'345}, Range{3 * kMiB, 8 * kMiB}, Range{0, 3 * kMiB}}) ASSERT_TRUE(bring(range).ok());
  EXPECT_EQ(settler_->have_bytes(), bytes_.size());
  expect_whole();
}

TEST_F(SettlerTest, GoesOnBetweenRangesThatBeginAndEndAnywhere) {
  const std::vector<Range> there{{0, 4095}, {4097, 4098}, {10'000, kMiB + 1}, {2 * kMiB, 3 * kMiB - 1}, {5 * kMiB + 4096, 6 * kMiB + 700}};
  begin(there, {.resumable = true}, store_directory());
  RangeSet have = settler_->have();
  EXPECT_EQ(have.ranges(), there);
  while (const auto gap = have.first_gap(0, bytes_.size())) {
    // Cut now and then, where it falls.
    const Range piece{gap->begin, std::min(gap->end, gap->begin + 777'777)};
    ASSERT_TRUE(bring(piece).ok());
    have.add(piece);
  }
  expect_whole();
}

TEST_F(SettlerTest, AFrontThatDoesNotComeHoldsNothingUp) {
  bytes_ = noise(40 * kMiB + 1);
  begin({}, {.blocks = 6}, store_directory());
  ASSERT_TRUE(bring({kMiB, bytes_.size()}).ok()) << "of six blocks' memory";
  EXPECT_EQ(settler_->have_bytes(), bytes_.size() - kMiB);
  ASSERT_TRUE(bring({0, kMiB}).ok());
  expect_whole();
}

TEST_F(SettlerTest, HasABlockForEachConnection) {
  begin({}, {.blocks = 1, .connections = 12}, store_directory());
  std::vector<Block*> open(12, nullptr);
  for (std::uint64_t at = 0; at < kMiB; at += 1000)
    for (std::uint64_t i = 0; i < open.size(); ++i) {
      const std::uint64_t begin = i * kMiB + at;
      const std::uint64_t end = (i + 1) * kMiB;
      ASSERT_TRUE(settler_->take(open[i], begin, std::string_view(bytes_).substr(begin, std::min<std::uint64_t>(1000, end - begin)), end).ok());
    }
  ASSERT_TRUE(bring({12 * kMiB, bytes_.size()}).ok());
  expect_whole();
}

TEST_F(SettlerTest, WritesDownWhatWasHandedOverWhenItIsStopped) {
  begin({}, {.connections = 2, .resumable = true}, store_directory());
  ASSERT_TRUE(bring({0, kMiB + 5000}).ok());
  ASSERT_TRUE(bring({4 * kMiB + 17, 6 * kMiB + 33}).ok());
  Block* open = nullptr;
  ASSERT_TRUE(settler_->take(open, 8 * kMiB, "lost with the process", 9 * kMiB).ok());
  settler_.reset();
  const std::vector<Range> kept{{0, kMiB + 5000}, {4 * kMiB + 17, 6 * kMiB + 33}};
  EXPECT_EQ(journal(), kept);
  resume(kept, {.resumable = true});
  for (const Range& range : {Range{kMiB + 5000, 4 * kMiB + 17}, Range{6 * kMiB + 33, bytes_.size()}}) ASSERT_TRUE(bring(range).ok());
  expect_whole();
}

TEST_F(SettlerTest, HandsOverWhatASlowConnectionBroughtLongAgo) {
  begin({}, {.resumable = true}, store_directory());
  Block* open = nullptr;
  ASSERT_TRUE(settler_->take(open, 0, std::string_view(bytes_).substr(0, 100), bytes_.size()).ok());
  settler_->hand_over_old(open, now());
  ASSERT_NE(open, nullptr) << "it is not old";
  EXPECT_EQ(settler_->have_bytes(), 0U);
  settler_->hand_over_old(open, now() + Settler::kHoldAtMost);
  EXPECT_EQ(open, nullptr);
  EXPECT_EQ(settler_->have_bytes(), 100U);
  ASSERT_TRUE(settler_->take(open, 100, std::string_view(bytes_).substr(100, 100), bytes_.size()).ok());
  settler_->hand_over(open);
  ASSERT_TRUE(bring({200, bytes_.size()}).ok());
  expect_whole();
}

TEST_F(SettlerTest, KnowsAFileOfNoBytes) {
  bytes_.clear();
  begin({}, {}, store_directory());
  expect_whole();
}

TEST_F(SettlerTest, GoesThroughThePageCacheWhereDirectWritesAreRefused) {
  if (::geteuid() != 0) GTEST_SKIP() << "a file system of its own needs root";
  const Mounted ram(directory_.file("ram"), "ramfs", "");
  ASSERT_TRUE(ram);
  begin({{5, 5000}}, {.blocks = 6, .resumable = true}, directory_.file("ram/store"));
  if (file_->direct()) GTEST_SKIP() << "this kernel's ramfs takes direct writes";
  ASSERT_TRUE(bring({5000, bytes_.size()}).ok());
  ASSERT_TRUE(bring({0, 5}).ok());
  expect_whole();
  settler_.reset();
}

TEST_F(SettlerTest, AFullDiskEndsItAndWhatIsThereIsWrittenDown) {
  if (::geteuid() != 0) GTEST_SKIP() << "a small file system needs root";
  const Mounted small(directory_.file("small"), "tmpfs", "size=6m");
  ASSERT_TRUE(small);
  begin({}, {.blocks = 6, .resumable = true}, directory_.file("small/store"));
  ASSERT_TRUE(bring({0, 2 * kMiB}).ok());
  const base::Status status = bring({2 * kMiB, bytes_.size()});
  ASSERT_FALSE(status.ok()) << "it waits for the disk, and the disk says no";
  EXPECT_EQ(status.error().kind, base::ErrorKind::exhausted);
  EXPECT_NE(status.error().message.find("the disk is full"), std::string::npos);
  EXPECT_FALSE(settler_->status().ok());
  std::filesystem::resize_file(store_->part_path("key"), 5 * kMiB);  // room for the journal
  settler_.reset();
  const std::vector<Range> kept = journal();
  ASSERT_FALSE(kept.empty());
  EXPECT_EQ(kept.front().begin, 0U);
  EXPECT_GE(kept.front().end, 2 * kMiB);
}

TEST(PartFile, WritesEdgesAndWholeBlocksWhereTheyBelong) {
  const test::TempDir directory;
  const std::string bytes = noise(3 * kMiB);
  const std::string path = directory.file("part");
  auto memory = ReadMemory::allocate(3 * kMiB + 2 * PartFile::kAlignBytes);
  ASSERT_TRUE(memory.ok());
  for (const Range& range : {Range{0, 1}, Range{1, 4096}, Range{4095, 4097}, Range{0, 8192}, Range{100, 3 * kMiB - 100}, Range{4096, 3 * kMiB}}) {
    std::filesystem::remove(path);
    auto file = PartFile::open(path, 0);
    ASSERT_TRUE(file.ok());
    std::copy(bytes.begin(), bytes.end(), reinterpret_cast<char*>(memory->span().data()));
    const std::span<const std::byte> piece = memory->span().subspan(range.begin, range.bytes());
    ASSERT_TRUE(file->write(std::vector{piece}, range.begin).ok());
    ASSERT_TRUE(file->sync().ok());
    EXPECT_EQ(std::filesystem::file_size(path), range.end);
    std::fill(memory->span().begin(), memory->span().end(), std::byte{0});
    const auto back = file->read(memory->span(), range.begin, range.bytes());
    ASSERT_TRUE(back.ok()) << back.error().message;
    EXPECT_EQ(std::string_view(reinterpret_cast<const char*>(back->data()), back->size()),
              std::string_view(bytes).substr(range.begin, range.bytes()));
  }
}

TEST(BlockTable, WritesTheFirstOfTheFileFirstWithWhatFollowsUponIt) {
  auto table = BlockTable::make(6);
  ASSERT_TRUE(table.ok());
  const auto fill = [&](std::uint64_t begin, std::uint64_t end) {
    Block* const block = table->open(begin);
    ASSERT_NE(block, nullptr);
    block->end = end;
    table->hand_over(*block);
  };
  const auto begins = [](const std::vector<Block*>& run) {
    std::vector<std::uint64_t> all;
    for (const Block* block : run) all.push_back(block->begin);
    return all;
  };
  fill(5 * kMiB, 6 * kMiB);
  fill(2 * kMiB, 3 * kMiB);
  fill(kMiB, 2 * kMiB);
  fill(3 * kMiB, 3 * kMiB + 10);
  fill(3 * kMiB + 10, 4 * kMiB);
  const auto first = table->next_run();
  EXPECT_EQ(begins(first), (std::vector<std::uint64_t>{kMiB, 2 * kMiB, 3 * kMiB})) << "up to where a block of the disk is cut";
  const auto second = table->next_run();
  EXPECT_EQ(begins(second), (std::vector<std::uint64_t>{3 * kMiB + 10}));
  EXPECT_FALSE(table->drop_furthest()) << "nothing is on the disk";
  table->written(first);
  EXPECT_TRUE(table->drop_furthest());
  EXPECT_EQ(table->find(3 * kMiB), nullptr) << "the last of those that are";
  ASSERT_NE(table->find(kMiB), nullptr);
  table->hashed(*table->find(kMiB));
  EXPECT_EQ(table->find(kMiB), nullptr) << "written and hashed";
  EXPECT_EQ(table->next_begin(kMiB), 2 * kMiB);
  EXPECT_EQ(table->free_blocks(), 3U);
  Block* const empty = table->open(0);
  ASSERT_NE(empty, nullptr);
  table->hand_over(*empty);
  EXPECT_EQ(table->free_blocks(), 3U) << "it held nothing";
}

}  // namespace
}  // namespace thaw::node::pull
