#include "store/sqlite/usage_database.h"

#include <array>
#include <csignal>
#include <fstream>

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "store/sqlite/database.h"
#include "store/store.h"
#include "unit/temp_dir.h"

namespace thaw::store {
namespace {

constexpr std::int64_t kDay = 20'000;  // 2024-10-04

UsageRow row(std::uint64_t number, const std::string& tenant, const std::string& model, std::int64_t day = kDay, std::uint64_t key = 1) {
  UsageRow row;
  row.seq = usage_seq(1, number);
  row.arrived_unix_ms = day * kDay_ms + 1000;
  row.ended_unix_ms = row.arrived_unix_ms + 250;
  row.dispatched = true;
  row.key = base::KeyId(key);
  row.tenant = tenant;
  row.model = model;
  row.status = 200;
  row.prompt_tokens = 10;
  row.completion_tokens = 3;
  row.wait_us = 5;
  row.service_us = 1'000'000;
  row.start_us = 7;
  return row;
}

class UsageDatabaseTest : public ::testing::Test {
 protected:
  std::unique_ptr<UsageDatabase> open(UsageDatabase::Retention retention = {}) {
    auto opened = UsageDatabase::open(path(), former_, retention);
    EXPECT_TRUE(opened.ok()) << (opened.ok() ? "" : opened.error().message);
    return opened.ok() ? std::move(opened).value() : nullptr;
  }
  [[nodiscard]] std::string path() const { return directory_.path() + "/usage.db"; }

  test::TempDir directory_;
  std::string former_;
};

TEST_F(UsageDatabaseTest, SumsByEachOfThem) {
  const auto database = open();
  UsageRow failed = row(3, "b", "m", kDay + 1, 2);
  failed.outcome = UsageOutcome::failed;
  failed.way = UsageWay::cold;
  ASSERT_TRUE(database->append(std::vector{row(1, "a", "m"), row(2, "a", "n"), failed}).ok());
  const auto by_model = database->sums(UsageBy::model, {});
  ASSERT_EQ(by_model->size(), 2U);
  EXPECT_EQ(by_model->at(0).group, "m");
  EXPECT_EQ(by_model->at(0).totals.requests, 2U);
  EXPECT_EQ(by_model->at(0).totals.ok, 1U);
  EXPECT_EQ(by_model->at(0).totals.failed, 1U);
  EXPECT_EQ(by_model->at(0).totals.cold, 1U);
  EXPECT_EQ(by_model->at(0).totals.prompt_tokens, 20U);
  EXPECT_EQ(by_model->at(0).totals.completion_tokens, 6U);
  EXPECT_EQ(by_model->at(0).totals.service_us, 2'000'000U);
  EXPECT_EQ(by_model->at(0).totals.start_us, 14U);
  const auto by_tenant = database->sums(UsageBy::tenant, {});
  ASSERT_EQ(by_tenant->size(), 3U) << "one for each model, since prices may differ";
  EXPECT_EQ(by_tenant->at(1).group + by_tenant->at(1).model, "an");
  const auto by_day = database->sums(UsageBy::day, {});
  EXPECT_EQ(by_day->at(0).group, "2024-10-04");
  EXPECT_EQ(by_day->back().group, "2024-10-05");
  const auto by_key = database->sums(UsageBy::key, {});
  EXPECT_EQ(by_key->back().group, "key:2");
  EXPECT_EQ(database->sums(UsageBy::model, {.tenant = "b"})->size(), 1U);
  EXPECT_EQ(database->sums(UsageBy::tenant, {.tenant = "c"})->size(), 0U);
  EXPECT_EQ(database->rows({.tenant = "a"}, 0, 10)->size(), 2U);
  const auto one_day = database->sums(UsageBy::model, {kDay + 1, kDay + 1});
  ASSERT_EQ(one_day->size(), 1U);
  EXPECT_EQ(one_day->at(0).totals.requests, 1U);
}

TEST_F(UsageDatabaseTest, ARowIsThereOnce) {
  const std::vector rows{row(1, "a", "m"), row(2, "a", "m")};
  ASSERT_TRUE(open()->append(rows).ok());
  const auto database = open();  // the process died before it knew that they are stored
  ASSERT_TRUE(database->append(std::vector{rows[0], rows[1], row(3, "a", "m")}).ok());
  EXPECT_EQ(database->sums(UsageBy::model, {})->at(0).totals.requests, 3U);
  EXPECT_EQ(database->rows({}, 0, 100)->size(), 3U);
}

TEST_F(UsageDatabaseTest, ListsRowsWithTheIdThatTheClientSaw) {
  const auto database = open();
  ASSERT_EQ(*database->begin_start(0x8732d53a, 5), 1U);
  ASSERT_EQ(*database->begin_start(0x11111111, 6), 2U);
  std::vector<UsageRow> rows;
  for (std::uint64_t i = 1; i <= 150; ++i) rows.push_back(row(i, "a", "m"));
  UsageRow later = row(1, "a", "m", kDay + 3);
  later.seq = usage_seq(2, 1);
  rows.push_back(later);
  ASSERT_TRUE(database->append(rows).ok());
  const auto listed = database->rows({}, 0, 1000);
  ASSERT_EQ(listed->size(), rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) EXPECT_EQ(listed->at(i).row, rows[i]) << i;
  EXPECT_EQ(listed->at(2).request, "req_8732d53a0000000003");
  EXPECT_EQ(listed->back().request, "req_111111110000000001");
  EXPECT_EQ(database->rows({}, listed->at(148).position, 1)->at(0).row.seq, rows[149].seq);
  UsageRow longest = row(0, "a", "m");
  ASSERT_TRUE(database->append(std::vector{longest}).ok());
  const auto rest = database->rows({}, listed->back().position, 10);
  ASSERT_EQ(rest->size(), 1U) << "one that came first and ended last is not missed by who asks for what is new";
  EXPECT_EQ(rest->at(0).row.seq, longest.seq);
  EXPECT_EQ(database->rows({kDay + 3, kDay + 3}, 0, 10)->size(), 1U);
}

TEST_F(UsageDatabaseTest, RemovesWhatIsOldAndKeepsTheSums) {
  const auto database = open({.rows_days = 90, .daily_days = 1000});
  std::vector<UsageRow> rows;
  for (std::uint64_t i = 1; i <= 12'000; ++i) rows.push_back(row(i, "a", "m", kDay - 200));
  ASSERT_TRUE(database->append(rows).ok());
  ASSERT_TRUE(database->append(std::vector{row(20'000, "a", "m", kDay - 89)}).ok());
  ASSERT_TRUE(database->tidy(kDay * kDay_ms).ok());
  EXPECT_EQ(database->rows({}, 0, 100)->size(), 1U);
  EXPECT_EQ(database->sums(UsageBy::model, {})->at(0).totals.requests, 12'001U);
  ASSERT_TRUE(database->tidy((kDay + 800 + 5) * kDay_ms).ok());
  EXPECT_EQ(database->sums(UsageBy::model, {})->at(0).totals.requests, 1U);
}

TEST_F(UsageDatabaseTest, ForgetsATenant) {
  const auto database = open();
  ASSERT_TRUE(database->append(std::vector{row(1, "acme-secret", "m", kDay, 1), row(2, "acme-secret", "m", kDay, 2), row(3, "other", "m", kDay, 3)}).ok());
  const auto erased = database->erase_tenant("acme-secret");
  ASSERT_TRUE(erased.ok()) << erased.error().message;
  EXPECT_EQ(erased->rows, 2U);
  EXPECT_EQ(erased->days, 1U);
  EXPECT_EQ(database->rows({}, 0, 100)->size(), 1U);
  const auto sums = database->sums(UsageBy::tenant, {});
  ASSERT_EQ(sums->size(), 2U);
  EXPECT_EQ(sums->at(0).group, erased->stands_as);
  EXPECT_EQ(sums->at(0).totals.requests, 2U) << "what was used in all stays true";
  EXPECT_EQ(database->sums(UsageBy::key, {})->at(0).group, "dev") << "keys are forgotten, too";
  for (const char* file : {"/usage.db", "/usage.db-wal"}) {
    std::ifstream in(directory_.path() + file, std::ios::binary);
    const std::string all((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    EXPECT_EQ(all.find("acme-secret"), std::string::npos) << file;
  }
  EXPECT_EQ(database->erase_tenant("acme-secret")->rows, 0U);
  ASSERT_TRUE(database->append(std::vector{row(9, "acme-secret", "m")}).ok()) << "the name may come again";
  EXPECT_EQ(database->sums(UsageBy::tenant, {})->size(), 3U);
}

TEST_F(UsageDatabaseTest, PacksTheRowsOfTheFirstVersion) {
  (void)open();
  {
    auto raw = Database::open(path(), Database::Access::read_write);
    ASSERT_TRUE(raw->execute(R"(
      DROP TABLE packs;
      CREATE TABLE requests(seq INTEGER PRIMARY KEY, arrived_unix_ms INTEGER NOT NULL, total_ms INTEGER NOT NULL, tenant INTEGER NOT NULL,
                            key INTEGER NOT NULL, model INTEGER NOT NULL, outcome INTEGER NOT NULL, way INTEGER NOT NULL,
                            dispatched INTEGER NOT NULL, status INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL,
                            completion_tokens INTEGER NOT NULL, wait_us INTEGER NOT NULL, service_us INTEGER NOT NULL, start_us INTEGER NOT NULL);
      INSERT INTO tenants(name) VALUES('a');
      INSERT INTO models(name) VALUES('m');
      WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9000)
        INSERT INTO requests SELECT (1 << 40) + i, 1728000001000, 250, 1, 1, 1, 0, 0, 1, 200, 10, 3, 5, 1000000, 7 FROM n;
      PRAGMA user_version = 1;)")
                    .ok());
  }
  for (int i = 0; i < 2; ++i) {
    const auto database = open();
    const auto listed = database->rows({}, 0, 10'000);
    ASSERT_EQ(listed->size(), 9000U);
    EXPECT_EQ(listed->front().row, row(1, "a", "m"));
    EXPECT_EQ(listed->back().row, row(9000, "a", "m"));
  }
  auto raw = Database::open(path(), Database::Access::read_only);
  EXPECT_EQ(*raw->integer("SELECT count(*) FROM packs"), 2);
}

TEST_F(UsageDatabaseTest, AGroupThatWasStoredJustBeforeACrashIsNotStoredAgain) {
  std::vector<UsageRow> rows;
  for (std::uint64_t i = 1; i <= 10'000; ++i) rows.push_back(row(i, "a", "m"));
  ASSERT_TRUE(open()->append(std::span(rows).first(2'000)).ok());
  ASSERT_TRUE(open()->append(std::span(rows).subspan(2'000, 3'000)).ok());
  const auto database = open();  // what was stored last is given again, last
  ASSERT_TRUE(database->append(std::span(rows).subspan(5'000)).ok());
  ASSERT_TRUE(database->append(std::span(rows).subspan(2'000, 3'000)).ok());
  EXPECT_EQ(database->sums(UsageBy::model, {})->at(0).totals.requests, 10'000U);
}

TEST_F(UsageDatabaseTest, AnErasedTenantsPlacesAreEmptyForWhoReadsPageAfterPage) {
  const auto database = open();
  std::vector<UsageRow> rows;
  for (std::uint64_t i = 1; i <= 100; ++i) rows.push_back(row(i, i % 2 == 0 ? "gone" : "stays", "m"));
  ASSERT_TRUE(database->append(rows).ok());
  const auto page = database->rows({}, 0, 50);
  ASSERT_EQ(database->erase_tenant("gone")->rows, 50U);
  const auto rest = database->rows({}, page->back().position, 100);
  ASSERT_EQ(rest->size(), 25U);
  EXPECT_EQ(rest->front().row, rows[50]);
}

TEST_F(UsageDatabaseTest, SaysThatAGroupIsDamaged) {
  const auto database = open();
  ASSERT_TRUE(database->append(std::vector{row(1, "a", "m")}).ok());
  auto raw = Database::open(path(), Database::Access::read_write);
  ASSERT_TRUE(raw->execute("UPDATE packs SET rows = x'0102'").ok());
  const auto listed = database->rows({}, 0, 10);
  ASSERT_FALSE(listed.ok());
  EXPECT_NE(listed.error().message.find("ends in the middle of a request"), std::string::npos) << listed.error().message;
}

TEST_F(UsageDatabaseTest, TakesOverWhatFormerVersionsKeptInTheStore) {
  former_ = directory_.path() + "/thaw.db";
  {
    const auto store = open_sqlite(former_);
    ASSERT_TRUE(store.ok());
    ASSERT_TRUE((*store)->model_ref(base::ModelName("m")).ok());
  }
  {
    auto raw = Database::open(former_, Database::Access::read_write);
    ASSERT_TRUE(raw->execute("INSERT INTO usage VALUES(1728000000000, 4, 1, 10, 20, 30, 400, 200, 1), (1728000000000, 4, 1, 1, 2, 3, 4, 502, 0)").ok());
  }
  for (int i = 0; i < 2; ++i) {
    const auto database = open();
    const auto sums = database->sums(UsageBy::model, {});
    ASSERT_EQ(sums->size(), 1U);
    EXPECT_EQ(sums->at(0).totals.requests, 2U);
    EXPECT_EQ(sums->at(0).totals.failed, 1U);
    EXPECT_EQ(sums->at(0).totals.completion_tokens, 22U);
    EXPECT_EQ(sums->at(0).totals.cold, 1U);
    EXPECT_EQ(database->rows({}, 0, 10)->at(0).request, "");
  }
  auto raw = Database::open(former_, Database::Access::read_write);
  EXPECT_EQ(*raw->integer("SELECT count(*) FROM usage"), 0);
}

TEST_F(UsageDatabaseTest, RefusesWhatIsNotItsOwn) {
  former_ = "";
  {
    const auto store = open_sqlite(path());
    ASSERT_TRUE(store.ok());
  }
  const auto opened = UsageDatabase::open(path(), "", {});
  ASSERT_FALSE(opened.ok());
  EXPECT_NE(opened.error().message.find("another program's"), std::string::npos) << opened.error().message;
}

TEST_F(UsageDatabaseTest, IsTheOwnersAlone) {
  (void)open();
  struct stat status {};
  ASSERT_EQ(::stat(path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
}

// A child commits group after group and says so in a pipe; it is killed with SIGKILL in the midst of it. What it said
// was committed must be there, and never a part of a group.
TEST(KilledUsageDatabase, HasEveryCommittedGroupAndNoHalfOne) {
  constexpr std::size_t kGroup = 500;
  constexpr int kGroupsBeforeTheKill = 20;
  const test::TempDir dir;
  const std::string path = dir.file("usage.db");
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::close(ends[0]);
    const auto store = UsageDatabase::open(path, "", {});
    if (!store.ok()) ::_exit(1);
    for (std::uint64_t seq = 1;;) {
      std::vector<UsageRow> group;
      for (std::size_t i = 0; i < kGroup; ++i) group.push_back(row(seq++, "a", "m"));
      if (!(*store)->append(group).ok() || ::write(ends[1], "x", 1) != 1) ::_exit(1);
    }
  }
  ::close(ends[1]);
  std::uint64_t reported = 0;
  char byte = 0;
  while (reported < kGroupsBeforeTheKill && ::read(ends[0], &byte, 1) == 1) ++reported;
  ASSERT_EQ(::kill(child, SIGKILL), 0);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  while (::read(ends[0], &byte, 1) == 1) ++reported;
  ::close(ends[0]);
  ASSERT_GE(reported, static_cast<std::uint64_t>(kGroupsBeforeTheKill));

  const auto store = UsageDatabase::open(path, "", {});
  ASSERT_TRUE(store.ok()) << store.error().message;
  const auto sums = (*store)->sums(UsageBy::model, {});
  ASSERT_TRUE(sums.ok()) << sums.error().message;
  ASSERT_EQ(sums->size(), 1U);
  EXPECT_GE(sums->at(0).totals.requests, reported * kGroup);
  EXPECT_LE(sums->at(0).totals.requests, (reported + 1) * kGroup);
  EXPECT_EQ(sums->at(0).totals.requests % kGroup, 0U);
  std::uint64_t listed = 0;
  for (std::uint64_t after = 0;;) {
    const auto page = (*store)->rows({}, after, 1000);
    ASSERT_TRUE(page.ok()) << page.error().message;
    if (page->empty()) break;
    listed += page->size();
    after = page->back().position;
  }
  EXPECT_EQ(listed, sums->at(0).totals.requests) << "sums and rows agree";
}

TEST(UsageDay, ReadsWhatItWrites) {
  EXPECT_EQ(format_day(kDay), "2024-10-04");
  EXPECT_EQ(*parse_day("2024-10-04"), kDay);
  EXPECT_EQ(*parse_day("1970-01-01"), 0);
  for (const char* wrong : {"", "2024-1-4", "2024-13-01", "2024-02-30", "2024-10-04T", "20241004", "-024-10-04"}) EXPECT_FALSE(parse_day(wrong).ok()) << wrong;
}

}  // namespace
}  // namespace thaw::store
