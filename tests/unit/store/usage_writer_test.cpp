#include <condition_variable>
#include <mutex>

#include <gtest/gtest.h>

#include "store/store.h"
#include "unit/temp_dir.h"

namespace thaw::store {
namespace {

constexpr base::Duration kDeadline = base::Seconds(20);  // only ever reached by a test that fails
constexpr base::Duration kLong = std::chrono::hours(1);  // an interval that never passes within a test

/// A disk that hangs or fails on command.
class FakeStore : public Store {
 public:
  base::Status append_usage(const std::vector<UsageRow>& rows) override {
    std::unique_lock lock(mutex_);
    ++calls_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return !hanging_; });
    if (failures_ > 0) {
      --failures_;
      return base::Error{base::ErrorKind::exhausted, "disk full"};
    }
    for (const UsageRow& row : rows) tokens_.push_back(row.prompt_tokens);
    return {};
  }

  void hang(bool hanging) {
    const std::lock_guard lock(mutex_);
    hanging_ = hanging;
    changed_.notify_all();
  }
  void fail(int times) {
    const std::lock_guard lock(mutex_);
    failures_ = times;
  }
  bool wait_for_call(int count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kDeadline, [&] { return calls_ >= count; });
  }
  int calls() {
    const std::lock_guard lock(mutex_);
    return calls_;
  }
  std::vector<std::uint32_t> tokens() {
    const std::lock_guard lock(mutex_);
    return tokens_;
  }

  base::Status put_model(const StoredModel&) override { return unused(); }
  base::Result<bool> delete_model(const base::ModelName&) override { return unused(); }
  base::Result<std::vector<StoredModel>> models() override { return unused(); }
  base::Status put_model_files(const base::ModelName&, const std::vector<StoredFile>&) override { return unused(); }
  base::Result<std::map<base::ModelName, std::vector<StoredFile>>> model_files() override { return unused(); }
  base::Result<base::KeyId> add_key(const StoredKey&) override { return unused(); }
  base::Result<std::vector<StoredKey>> keys() override { return unused(); }
  base::Result<std::uint32_t> model_ref(const base::ModelName&) override { return unused(); }
  base::Result<std::vector<UsageSum>> usage_by_model() override { return unused(); }
  base::Result<std::uint64_t> reserve_ids(const std::string&, std::uint64_t) override { return unused(); }

 private:
  static base::Error unused() { return {base::ErrorKind::internal, "a UsageWriter must not call this"}; }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::uint32_t> tokens_;
  int calls_ = 0;
  int failures_ = 0;
  bool hanging_ = false;
};

UsageRow row(std::uint32_t tokens) {
  UsageRow usage;
  usage.prompt_tokens = tokens;
  return usage;
}

TEST(UsageWriter, CommitsInOrderAndInOneGroup) {
  FakeStore store;
  UsageWriter writer(store, kLong);
  std::vector<std::uint32_t> wanted;
  for (std::uint32_t i = 0; i < 1'000; ++i) {
    writer.add(row(i));
    wanted.push_back(i);
  }
  writer.flush();
  EXPECT_EQ(store.tokens(), wanted);
  EXPECT_EQ(store.calls(), 1);
  EXPECT_EQ(writer.committed(), 1'000U);
  EXPECT_EQ(writer.dropped(), 0U);
  writer.flush();  // nothing is pending: returns at once
  EXPECT_EQ(store.calls(), 1);
}

TEST(UsageWriter, CommitsByItselfAfterTheInterval) {
  FakeStore store;
  UsageWriter writer(store, base::Millis(1));
  writer.add(row(1));
  EXPECT_TRUE(store.wait_for_call(1));
  writer.add(row(2));
  EXPECT_TRUE(store.wait_for_call(2));
}

TEST(UsageWriter, CommitsWhatIsPendingWhenItEnds) {
  FakeStore store;
  {
    UsageWriter writer(store, kLong);
    writer.add(row(7));
  }
  EXPECT_EQ(store.tokens(), std::vector<std::uint32_t>{7});
}

TEST(UsageWriter, DropsAndCountsWhileTheDiskHangs) {
  FakeStore store;
  store.hang(true);
  UsageWriter writer(store, base::Millis(1), 10);
  writer.add(row(0));
  ASSERT_TRUE(store.wait_for_call(1));  // one row is with the disk now and counts as waiting
  for (std::uint32_t i = 1; i < 15; ++i) writer.add(row(i));
  EXPECT_EQ(writer.dropped(), 5U);
  EXPECT_EQ(writer.committed(), 0U);
  store.hang(false);
  writer.flush();
  EXPECT_EQ(store.tokens(), (std::vector<std::uint32_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
  EXPECT_EQ(writer.committed(), 10U);
  writer.add(row(99));
  writer.flush();
  EXPECT_EQ(writer.committed(), 11U);
  EXPECT_EQ(writer.dropped(), 5U);
}

TEST(UsageWriter, TriesAgain) {
  FakeStore store;
  store.fail(2);
  UsageWriter writer(store, base::Millis(1));
  writer.add(row(5));
  writer.flush();
  EXPECT_EQ(store.calls(), 3);
  EXPECT_EQ(store.tokens(), std::vector<std::uint32_t>{5});
  EXPECT_EQ(writer.dropped(), 0U);
}

TEST(UsageWriter, GivesUpAndCountsAtLast) {
  FakeStore store;
  store.fail(3);
  UsageWriter writer(store, base::Millis(1));
  writer.add(row(5));
  writer.flush();
  EXPECT_EQ(store.calls(), 3);
  EXPECT_EQ(writer.dropped(), 1U);
  writer.add(row(6));
  writer.flush();
  EXPECT_EQ(store.tokens(), std::vector<std::uint32_t>{6});
}

TEST(UsageWriter, GivesUpWithoutWaitingWhenItEnds) {
  FakeStore store;
  store.fail(1'000);
  {
    UsageWriter writer(store, kLong);
    writer.add(row(5));
  }
  EXPECT_EQ(store.calls(), 3);
}

TEST(UsageWriter, WritesToSqlite) {
  const test::TempDir dir;
  auto store = open_sqlite(dir.file("t.db"));
  ASSERT_TRUE(store.ok()) << store.error().message;
  const auto ref = (*store)->model_ref(base::ModelName("m"));
  {
    UsageWriter writer(**store, base::Millis(1));
    for (std::uint32_t i = 0; i < 50'000; ++i) {
      UsageRow usage = row(i);
      usage.model = *ref;
      writer.add(usage);
    }
  }
  const auto sums = (*store)->usage_by_model();
  ASSERT_EQ(sums->size(), 1U);
  EXPECT_EQ(sums->at(0).requests, 50'000U);
  EXPECT_EQ(sums->at(0).prompt_tokens, 50'000ULL * 49'999 / 2);
}

}  // namespace
}  // namespace thaw::store
