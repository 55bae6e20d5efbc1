#include "node/file_hasher.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>

#include "unit/node/gguf_builder.h"

namespace thaw::node {
namespace {

using testing::TemporaryDirectory;
using testing::write_file;

constexpr auto kPatience = std::chrono::seconds(20);

class FileHasherTest : public ::testing::Test {
 protected:
  FileHasherTest() {
    write_file(small(), "abc");
    write_file(big(), std::string(4 * kHashChunkBytes, 'x'));
    make_hasher({base::Millis(100), base::Seconds(60)});
  }
  void make_hasher(FileHasher::Times times) {
    hasher_ = std::make_unique<FileHasher>(
        [this] {
          ++looks_;
          return busy_.load();
        },
        times);
  }
  [[nodiscard]] std::string small() const { return directory_ / "small"; }
  [[nodiscard]] std::string big() const { return directory_ / "big"; }

  std::future<base::Result<HashedFile>> hash(const std::string& path, bool urgent) {
    auto promise = std::make_shared<std::promise<base::Result<HashedFile>>>();
    auto future = promise->get_future();
    hasher_->hash(path, urgent, [this, promise, path](base::Result<HashedFile> hashed) {
      {
        const std::lock_guard lock(mutex_);
        order_.push_back(path == small() ? "small" : "big");
      }
      promise->set_value(std::move(hashed));
    });
    return future;
  }
  void wait_for_looks() const {
    const int seen = looks_;
    const auto give_up = std::chrono::steady_clock::now() + kPatience;
    while (looks_ < seen + 2 && std::chrono::steady_clock::now() < give_up) std::this_thread::yield();
    ASSERT_GE(looks_, seen + 2);
  }

  TemporaryDirectory directory_;
  std::atomic<bool> busy_ = false;
  std::atomic<int> looks_ = 0;
  std::mutex mutex_;
  std::vector<std::string> order_;
  std::unique_ptr<FileHasher> hasher_;
};

TEST_F(FileHasherTest, HashesInTheBackground) {
  auto hashed = hash(small(), false);
  ASSERT_EQ(hashed.wait_for(kPatience), std::future_status::ready);
  const auto result = hashed.get();
  ASSERT_TRUE(result.ok()) << result.error().message;
  EXPECT_EQ(result->sha256.substr(0, 8), "ba7816bf");
  EXPECT_EQ(result->file.bytes, 3U);
  EXPECT_EQ(hash(directory_ / "absent", false).get().error().kind, base::ErrorKind::not_found);
}

TEST_F(FileHasherTest, StandsStillWhileAnInstanceStarts) {
  busy_ = true;
  auto hashed = hash(small(), false);
  wait_for_looks();
  EXPECT_EQ(hashed.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
  busy_ = false;
  ASSERT_EQ(hashed.wait_for(kPatience), std::future_status::ready);
  EXPECT_TRUE(hashed.get().ok());
}

TEST_F(FileHasherTest, GoesOnAfterALongTimeOfStarts) {
  make_hasher({base::Millis(100), base::Millis(200)});
  busy_ = true;
  auto hashed = hash(big(), false);
  ASSERT_EQ(hashed.wait_for(kPatience), std::future_status::ready);
  EXPECT_TRUE(hashed.get().ok());
}

TEST_F(FileHasherTest, WhatSomebodyWaitsForGoesFirst) {
  busy_ = true;
  auto background = hash(big(), false);
  wait_for_looks();  // it is in work
  auto urgent = hash(small(), true);
  ASSERT_EQ(urgent.wait_for(kPatience), std::future_status::ready) << "a start does not hold it up either";
  EXPECT_TRUE(urgent.get().ok());
  EXPECT_EQ(background.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
  busy_ = false;
  ASSERT_EQ(background.wait_for(kPatience), std::future_status::ready);
  EXPECT_TRUE(background.get().ok());
  EXPECT_EQ(order_, (std::vector<std::string>{"small", "big"}));
}

TEST_F(FileHasherTest, AnswersEverybodyWhenItEnds) {
  busy_ = true;
  std::vector<std::future<base::Result<HashedFile>>> waiting;
  for (int i = 0; i < 3; ++i) waiting.push_back(hash(big(), false));
  wait_for_looks();
  hasher_.reset();
  for (auto& one : waiting) EXPECT_EQ(one.get().error().kind, base::ErrorKind::unavailable);
}

TEST_F(FileHasherTest, TooMuchIsRefusedAtOnce) {
  busy_ = true;
  std::vector<std::future<base::Result<HashedFile>>> waiting;
  waiting.push_back(hash(big(), false));
  wait_for_looks();  // it is in work, and does not count
  for (std::size_t i = 0; i < FileHasher::kMaxWaiting; ++i) waiting.push_back(hash(small(), false));
  auto refused = hash(small(), true);
  ASSERT_EQ(refused.wait_for(std::chrono::seconds(0)), std::future_status::ready);
  EXPECT_EQ(refused.get().error().kind, base::ErrorKind::exhausted);
}

}  // namespace
}  // namespace thaw::node
