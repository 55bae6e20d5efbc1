#include "store/usage_journal.h"

#include <condition_variable>
#include <cstring>
#include <fstream>
#include <mutex>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "unit/temp_dir.h"

namespace thaw::store {
namespace {

constexpr base::Duration kDeadline = base::Seconds(20);  // only ever reached by a test that fails
constexpr base::Duration kLong = std::chrono::hours(1);  // an interval that never passes within a test

/// A database that hangs or fails on command.
class FakeSink : public UsageSink {
 public:
  base::Status append(std::span<const UsageRow> rows) override {
    std::unique_lock lock(mutex_);
    ++calls_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return !hanging_; });
    if (failing_) return base::Error{base::ErrorKind::exhausted, "disk full"};
    rows_.insert(rows_.end(), rows.begin(), rows.end());
    return {};
  }
  base::Status tidy(std::int64_t) override { return {}; }

  void hang(bool hanging) {
    const std::lock_guard lock(mutex_);
    hanging_ = hanging;
    changed_.notify_all();
  }
  void fail(bool failing) {
    const std::lock_guard lock(mutex_);
    failing_ = failing;
  }
  bool wait_for_call(int count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kDeadline, [&] { return calls_ >= count; });
  }
  std::vector<UsageRow> rows() {
    const std::lock_guard lock(mutex_);
    return rows_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<UsageRow> rows_;
  int calls_ = 0;
  bool hanging_ = false, failing_ = false;
};

class UsageJournalTest : public ::testing::Test {
 protected:
  std::unique_ptr<UsageJournal> open(std::uint32_t slots = 16, base::Duration group = base::Millis(1)) {
    auto journal = UsageJournal::open({.path = path(),
                                       .slots = slots,
                                       .group_interval = group,
                                       .retry_interval = base::Millis(1),
                                       .unix_ms = [] { return std::int64_t{5000}; },
                                       .warn = [this](const std::string& text) {
                                         const std::lock_guard lock(warned_mutex_);
                                         warned_ += text + "\n";
                                       }},
                                      sink_);
    EXPECT_TRUE(journal.ok()) << (journal.ok() ? "" : journal.error().message);
    return journal.ok() ? std::move(journal).value() : nullptr;
  }
  [[nodiscard]] std::string path() const { return directory_.path() + "/usage.journal"; }
  std::string warned() {
    const std::lock_guard lock(warned_mutex_);
    return warned_;
  }
  static UsageOpening opening(std::uint64_t seq) { return {seq, 1000, base::KeyId(7), "acme", "stories"}; }
  static UsageClosing closing(std::uint32_t tokens) {
    UsageClosing closed;
    closed.ended_unix_ms = 2000;
    closed.status = 200;
    closed.prompt_tokens = tokens;
    closed.completion_tokens = 2 * tokens;
    closed.wait_us = 3;
    closed.service_us = 4;
    closed.start_us = 5;
    closed.way = UsageWay::cold;
    return closed;
  }
  /// Runs `work` in a process that is then killed, as by kill -9.
  template <typename Work>
  void in_a_killed_process(const Work& work) {
    const pid_t child = fork();
    if (child == 0) {
      const auto kept = work();
      kill(getpid(), SIGKILL);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
  }

  test::TempDir directory_;
  std::mutex warned_mutex_;
  std::string warned_;
  FakeSink sink_;
};

TEST_F(UsageJournalTest, MovesWhatIsClosedAndNothingElse) {
  const auto journal = open();
  const auto first = journal->begin(opening(11));
  const auto second = journal->begin(opening(12));
  ASSERT_NE(first, UsageJournal::kNone);
  ASSERT_NE(first, second);
  journal->dispatched(second);
  journal->close(second, closing(21));
  ASSERT_TRUE(journal->flush().ok());
  const auto rows = sink_.rows();
  ASSERT_EQ(rows.size(), 1U);
  UsageRow expected{12, 1000, 2000, true, base::KeyId(7), "acme", "stories", UsageOutcome::ok, UsageWay::cold, 200, 21, 42, 3, 4, 5};
  EXPECT_EQ(rows[0], expected);
  EXPECT_EQ(journal->moved(), 1U);
  journal->close(first, closing(1));
}

TEST_F(UsageJournalTest, UsesSlotsAgain) {
  const auto journal = open(4);
  for (std::uint32_t i = 1; i <= 100; ++i) {
    const auto slot = journal->begin(opening(i));
    ASSERT_NE(slot, UsageJournal::kNone) << i;
    journal->close(slot, closing(i));
    if (i % 4 == 0) {
      ASSERT_TRUE(journal->flush().ok());
    }
  }
  ASSERT_EQ(sink_.rows().size(), 100U);
  for (std::uint32_t i = 0; i < 100; ++i) EXPECT_EQ(sink_.rows()[i].prompt_tokens, i + 1);
  EXPECT_EQ(journal->lost(), 0U);
}

TEST_F(UsageJournalTest, CutsNamesThatAreTooLong) {
  const auto journal = open();
  UsageOpening long_names = opening(1);
  const std::string name(200, 'n');
  long_names.tenant = long_names.model = name;
  journal->close(journal->begin(long_names), closing(1));
  ASSERT_TRUE(journal->flush().ok());
  EXPECT_EQ(sink_.rows().at(0).tenant, name.substr(0, kMaxUsageName));
}

TEST_F(UsageJournalTest, WhatWasOpenWhenTheProcessDiedIsInterrupted) {
  in_a_killed_process([this] {
    auto journal = open(16, kLong);
    (void)journal->begin(opening(1));                        // admitted
    journal->dispatched(journal->begin(opening(2)));         // with a replica
    journal->close(journal->begin(opening(3)), closing(30));  // ended, not yet in the sink
    return journal;
  });
  const auto journal = open();
  EXPECT_EQ(journal->interrupted(), 2U);
  ASSERT_TRUE(journal->flush().ok());
  const auto rows = sink_.rows();
  ASSERT_EQ(rows.size(), 3U);
  EXPECT_EQ(rows[0].seq, 1U);
  EXPECT_EQ(rows[0].outcome, UsageOutcome::interrupted);
  EXPECT_FALSE(rows[0].dispatched);
  EXPECT_EQ(rows[0].ended_unix_ms, 5000);
  EXPECT_EQ(rows[1].outcome, UsageOutcome::interrupted);
  EXPECT_TRUE(rows[1].dispatched);
  EXPECT_EQ(rows[1].tenant, "acme");
  EXPECT_EQ(rows[2].outcome, UsageOutcome::ok);
  EXPECT_EQ(rows[2].prompt_tokens, 30U);
}

TEST_F(UsageJournalTest, WhatCouldNotBeMovedAtTheEndIsThereAtTheNextStart) {
  sink_.fail(true);
  {
    const auto journal = open();
    journal->close(journal->begin(opening(1)), closing(1));
    EXPECT_EQ(journal->flush().error().kind, base::ErrorKind::exhausted);
  }
  EXPECT_TRUE(sink_.rows().empty());
  sink_.fail(false);
  const auto journal = open();
  ASSERT_TRUE(journal->flush().ok());
  EXPECT_EQ(sink_.rows().size(), 1U);
  EXPECT_EQ(journal->interrupted(), 0U);
}

TEST_F(UsageJournalTest, WaitsForRoomAndCountsWhatItLosesMeanwhile) {
  const auto journal = open(2);
  sink_.fail(true);
  journal->close(journal->begin(opening(1)), closing(1));
  journal->close(journal->begin(opening(2)), closing(2));
  EXPECT_FALSE(journal->flush().ok());
  EXPECT_EQ(journal->begin(opening(3)), UsageJournal::kNone);
  journal->dispatched(UsageJournal::kNone);
  journal->close(UsageJournal::kNone, closing(3));
  EXPECT_EQ(journal->lost(), 1U);
  EXPECT_FALSE(journal->flush().ok());
  EXPECT_NE(warned().find("disk full"), std::string::npos) << warned();
  EXPECT_NE(warned().find("that is full: 1"), std::string::npos) << warned();
  sink_.fail(false);
  ASSERT_TRUE(journal->flush().ok());
  EXPECT_EQ(sink_.rows().size(), 2U);
  EXPECT_NE(journal->begin(opening(4)), UsageJournal::kNone);
  EXPECT_NE(warned().find("stored again"), std::string::npos) << warned();
}

TEST_F(UsageJournalTest, AHangingSinkHoldsNobodyUp) {
  const auto journal = open(8);
  sink_.hang(true);
  journal->close(journal->begin(opening(1)), closing(1));
  ASSERT_TRUE(sink_.wait_for_call(1));
  for (std::uint32_t i = 2; i <= 8; ++i) journal->close(journal->begin(opening(i)), closing(i));
  EXPECT_EQ(journal->begin(opening(9)), UsageJournal::kNone);
  sink_.hang(false);
  ASSERT_TRUE(journal->flush().ok());
  EXPECT_EQ(sink_.rows().size(), 8U);
}

TEST_F(UsageJournalTest, IsOneProcessOnly) {
  const auto journal = open();
  const auto second = UsageJournal::open({.path = path(), .unix_ms = [] { return std::int64_t{0}; }, .warn = {}}, sink_);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().kind, base::ErrorKind::conflict);
  EXPECT_NE(second.error().message.find("--data-dir"), std::string::npos) << second.error().message;
}

TEST_F(UsageJournalTest, SetsAsideWhatIsNoJournal) {
  std::ofstream(path()) << "something else";
  const auto journal = open();
  ASSERT_NE(journal, nullptr);
  EXPECT_NE(warned().find("usage.journal.damaged"), std::string::npos) << warned();
  EXPECT_EQ(access((path() + ".damaged").c_str(), F_OK), 0);
  journal->close(journal->begin(opening(1)), closing(1));
  ASSERT_TRUE(journal->flush().ok());
}

TEST_F(UsageJournalTest, CountsASlotThatIsDamagedAsLost) {
  in_a_killed_process([this] {
    auto journal = open(16, kLong);
    (void)journal->begin(opening(1));
    (void)journal->begin(opening(2));
    return journal;
  });
  {
    std::fstream file(path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(4096 + 24);  // into the first slot's tenant
    file.put('X');
  }
  const auto journal = open();
  ASSERT_TRUE(journal->flush().ok());
  EXPECT_EQ(journal->lost(), 1U);
  ASSERT_EQ(sink_.rows().size(), 1U);
  EXPECT_EQ(sink_.rows()[0].seq, 2U);
}

TEST_F(UsageJournalTest, LeavesNoNamesBehind) {
  {
    const auto journal = open();
    journal->close(journal->begin(opening(1)), closing(1));
    ASSERT_TRUE(journal->flush().ok());
  }
  std::ifstream file(path(), std::ios::binary);
  const std::string all((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  EXPECT_EQ(all.find("acme"), std::string::npos);
}

/// A death at any store leaves a slot that is free, open or closed: every prefix of what close_slot() writes.
TEST(UsageSlot, HalfWrittenIsNeitherClosedNorDamaged) {
  UsageSlot slot{};
  open_slot(slot, {1, 2, base::KeyId(3), "t", "m"});
  UsageSlot whole = slot;
  UsageClosing closing;
  closing.completion_tokens = 17;
  close_slot(whole, closing);
  ASSERT_EQ(state_of(whole), SlotState::closed);
  const std::size_t begin = offsetof(UsageSlot, closed) + sizeof(slot.closed.seq);
  for (std::size_t written = 0; written < sizeof(slot.closed) - sizeof(slot.closed.seq); ++written) {
    UsageSlot half = slot;
    std::memcpy(reinterpret_cast<char*>(&half) + begin, reinterpret_cast<const char*>(&whole) + begin, written);
    EXPECT_EQ(state_of(half), SlotState::open) << written;
  }
}

}  // namespace
}  // namespace thaw::store
