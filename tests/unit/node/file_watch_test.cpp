#include "node/file_watch.h"

#include <gtest/gtest.h>

#include <fstream>

#include "node/weights/integrity.h"
#include "unit/node/gguf_builder.h"

namespace thaw::node {
namespace {

using testing::TemporaryDirectory;
using testing::write_file;

/// A watch that looks often, and what it said.
class FileWatchTest : public ::testing::Test {
 protected:
  FileWatchTest() {
    write_file(path(), "abc");
    stamp_ = *stamp_file(path());
  }
  [[nodiscard]] std::string path() const { return directory_ / "m.gguf"; }

  void watch(std::uint64_t instance) { watch_.watch(base::InstanceId(instance), {stamp_}); }

  /// "1 changed", "2 gone" …, the next so many of them.
  std::vector<std::string> said(std::size_t count) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(20), [&] { return said_.size() >= count; }));
    return said_;
  }
  /// Gives the watch time for a few looks. What must not be said by then was not.
  std::vector<std::string> said_after_some_looks() {
    const std::string other = directory_ / "other";
    write_file(other, "x");
    watch_.watch(base::InstanceId(99), {*stamp_file(other)});
    for (int round = 0; round < 3; ++round) {
      const std::size_t before = said(0).size();
      std::ofstream(other, std::ios::app) << "y";
      said(before + 1);
      watch_.watch(base::InstanceId(99), {*stamp_file(other)});
    }
    auto all = said(0);
    std::erase(all, "99 changed");
    return all;
  }

  TemporaryDirectory directory_;
  wire::FileStamp stamp_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> said_;
  std::vector<wire::FilesChanged> changes_;
  FileWatch watch_{base::Millis(2), [this](const wire::FilesChanged& change) {
                     const std::lock_guard lock(mutex_);
                     said_.push_back(std::to_string(change.instance.value()) + (change.gone ? " gone" : " changed"));
                     changes_.push_back(change);
                     changed_.notify_all();
                   }};
};

TEST_F(FileWatchTest, SaysOnceThatAFileWasWrittenTo) {
  watch(1);
  std::ofstream(path(), std::ios::app) << "d";
  EXPECT_EQ(said(1), std::vector<std::string>{"1 changed"});
  EXPECT_EQ(changes_[0].file.path, path());
  EXPECT_EQ(changes_[0].file.bytes, 4U);
  EXPECT_EQ(changes_[0].detail, "its size went from 3 to 4 bytes");
  std::ofstream(path(), std::ios::app) << "e";
  EXPECT_EQ(said_after_some_looks(), std::vector<std::string>{"1 changed"});
}

TEST_F(FileWatchTest, SeesAnotherFileInItsPlace) {
  watch(1);
  write_file(directory_ / "new", "abc");
  std::filesystem::last_write_time(directory_ / "new", std::filesystem::last_write_time(path()));
  std::filesystem::rename(directory_ / "new", path());
  EXPECT_EQ(said(1), std::vector<std::string>{"1 changed"});
  EXPECT_EQ(changes_[0].detail, "another file was put in its place");
}

TEST_F(FileWatchTest, EveryInstanceOfTheFileIsNamed) {
  watch(1);
  watch(2);
  watch_.forget(base::InstanceId(2));
  watch(3);
  std::filesystem::resize_file(path(), 1);
  auto all = said(2);
  std::sort(all.begin(), all.end());
  EXPECT_EQ(all, (std::vector<std::string>{"1 changed", "3 changed"}));
}

TEST_F(FileWatchTest, AFileThatIsGoneMayComeBackAsAnother) {
  watch(1);
  std::filesystem::rename(path(), directory_ / "away");
  EXPECT_EQ(said(1), std::vector<std::string>{"1 gone"});
  EXPECT_EQ(changes_[0].file.path, path());
  EXPECT_EQ(said_after_some_looks(), std::vector<std::string>{"1 gone"});
  std::filesystem::rename(directory_ / "away", path());
  EXPECT_EQ(said_after_some_looks(), std::vector<std::string>{"1 gone"}) << "it is the same";
  const std::size_t before = said(0).size();
  write_file(path(), "others");
  EXPECT_EQ(said(before + 1).back(), "1 changed");
}

TEST_F(FileWatchTest, WhatIsForgottenIsNotLookedAt) {
  watch(1);
  watch_.forget(base::InstanceId(1));
  std::ofstream(path(), std::ios::app) << "d";
  EXPECT_EQ(said_after_some_looks(), std::vector<std::string>{});
}

TEST_F(FileWatchTest, WhatTookThePlaceOfARegularFileIsAChange) {
  watch(1);
  std::filesystem::remove(path());
  std::filesystem::create_directory(path());
  EXPECT_EQ(said(1).back(), "1 changed");
}

}  // namespace
}  // namespace thaw::node
