#include <set>
#include <thread>

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "store/store.h"
#include "unit/store/temp_dir.h"

namespace thaw::store {
namespace {

std::unique_ptr<Store> open(const std::string& path) {
  auto store = open_sqlite(path);
  EXPECT_TRUE(store.ok()) << (store.ok() ? "" : store.error().message);
  return store.ok() ? *std::move(store) : nullptr;
}

StoredModel model(const char* name, const char* json, std::int64_t updated = 2) {
  return {base::ModelName(name), json, 1, updated};
}

UsageRow usage(std::uint32_t ref, bool cold = false) {
  return {1'700'000'000'000, base::KeyId(1), ref, 10, 20, 3, 4, 200, cold};
}

TEST(SqliteStore, KeepsModelsOverAReopen) {
  const TempDir dir;
  {
    const auto store = open(dir.file("t.db"));
    ASSERT_TRUE(store->put_model(model("b", "{1}")).ok());
    ASSERT_TRUE(store->put_model(model("a", "{\"x\":\"\xe2\x82\xac'\"}")).ok());
    ASSERT_TRUE(store->put_model(model("b", "{2}", 9)).ok());
    ASSERT_TRUE(store->put_model(model("c", "{3}")).ok());
    EXPECT_EQ(*store->delete_model(base::ModelName("c")), true);
    EXPECT_EQ(*store->delete_model(base::ModelName("c")), false);
  }
  const auto models = open(dir.file("t.db"))->models();
  ASSERT_TRUE(models.ok());
  ASSERT_EQ(models->size(), 2U);
  EXPECT_EQ(models->at(0).name.str(), "a");
  EXPECT_EQ(models->at(0).spec_json, "{\"x\":\"\xe2\x82\xac'\"}");
  EXPECT_EQ(models->at(1).spec_json, "{2}");
  EXPECT_EQ(models->at(1).created_unix_ms, 1);
  EXPECT_EQ(models->at(1).updated_unix_ms, 9);
}

TEST(SqliteStore, KeepsKeysWithTheirBytes) {
  const TempDir dir;
  StoredKey key;
  key.name = "first key";
  key.tenant = base::TenantName("default");
  key.salt = std::string("\0salt\xff", 6);
  key.hash = std::string(32, '\0');
  key.created_unix_ms = 5;
  {
    const auto store = open(dir.file("t.db"));
    EXPECT_EQ(store->add_key(key)->value(), 1U);
    EXPECT_EQ(store->add_key(key)->value(), 2U);
  }
  const auto keys = open(dir.file("t.db"))->keys();
  ASSERT_TRUE(keys.ok());
  ASSERT_EQ(keys->size(), 2U);
  EXPECT_EQ(keys->at(1).id.value(), 2U);
  EXPECT_EQ(keys->at(1).name, "first key");
  EXPECT_EQ(keys->at(1).tenant.str(), "default");
  EXPECT_EQ(keys->at(1).salt, key.salt);
  EXPECT_EQ(keys->at(1).hash, key.hash);
  EXPECT_EQ(keys->at(1).created_unix_ms, 5);
}

TEST(SqliteStore, SumsUsageByModelAlsoWhenTheModelIsGone) {
  const TempDir dir;
  std::uint32_t a = 0;
  {
    const auto store = open(dir.file("t.db"));
    a = *store->model_ref(base::ModelName("a"));
    const std::uint32_t b = *store->model_ref(base::ModelName("b"));
    EXPECT_NE(a, 0U);
    EXPECT_NE(a, b);
    ASSERT_TRUE(store->put_model(model("a", "{}")).ok());
    ASSERT_TRUE(store->append_usage({usage(b), usage(a, true), usage(b)}).ok());
    ASSERT_TRUE(store->append_usage({}).ok());
    ASSERT_TRUE(*store->delete_model(base::ModelName("a")));
  }
  const auto store = open(dir.file("t.db"));
  EXPECT_EQ(*store->model_ref(base::ModelName("a")), a);
  const auto sums = store->usage_by_model();
  ASSERT_TRUE(sums.ok()) << sums.error().message;
  ASSERT_EQ(sums->size(), 2U);
  EXPECT_EQ(sums->at(0).model.str(), "a");
  EXPECT_EQ(sums->at(0).requests, 1U);
  EXPECT_EQ(sums->at(0).cold_starts, 1U);
  EXPECT_EQ(sums->at(1).requests, 2U);
  EXPECT_EQ(sums->at(1).prompt_tokens, 20U);
  EXPECT_EQ(sums->at(1).completion_tokens, 40U);
  EXPECT_EQ(sums->at(1).cold_starts, 0U);
}

TEST(SqliteStore, NeverRepeatsAnId) {
  const TempDir dir;
  {
    const auto store = open(dir.file("t.db"));
    EXPECT_EQ(*store->reserve_ids("instance", 100), 1U);
    EXPECT_EQ(*store->reserve_ids("instance", 1), 101U);
    EXPECT_EQ(*store->reserve_ids("other", 5), 1U);
    EXPECT_EQ(store->reserve_ids("instance", 0).error().kind, base::ErrorKind::invalid);
  }
  EXPECT_EQ(*open(dir.file("t.db"))->reserve_ids("instance", 7), 102U);
}

TEST(SqliteStore, ServesManyThreads) {
  const TempDir dir;
  const auto store = open(dir.file("t.db"));
  constexpr int kThreads = 4;
  constexpr int kRounds = 25;
  std::array<std::vector<std::uint64_t>, kThreads> ids;
  std::vector<std::thread> threads;
  for (auto& mine : ids)
    threads.emplace_back([&mine, &store] {
      for (int i = 0; i < kRounds; ++i) {
        mine.push_back(store->reserve_ids("instance", 1).value_or(0));
        (void)store->append_usage({usage(1)});
        (void)store->usage_by_model();
      }
    });
  for (auto& thread : threads) thread.join();
  std::set<std::uint64_t> distinct;
  for (const auto& mine : ids) distinct.insert(mine.begin(), mine.end());
  EXPECT_EQ(distinct.size(), static_cast<std::size_t>(kThreads * kRounds));
  EXPECT_FALSE(distinct.contains(0));
  EXPECT_EQ(store->usage_by_model()->at(0).requests, static_cast<std::uint64_t>(kThreads * kRounds));
}

TEST(SqliteStore, KeepsItsFilesToItsOwner) {
  const TempDir dir;
  const auto mode = [&](const char* name) {
    struct stat status {};
    return ::stat(dir.file(name).c_str(), &status) == 0 ? status.st_mode & 07777U : 0U;
  };
  const mode_t before = ::umask(0);
  {
    const auto store = open(dir.file("t.db"));
    ASSERT_TRUE(store->put_model(model("a", "{}")).ok());
    EXPECT_EQ(mode("t.db"), 0600U);
    EXPECT_EQ(mode("t.db-wal"), 0600U);
    EXPECT_EQ(mode("t.db-shm"), 0600U);
  }
  ASSERT_EQ(::chmod(dir.file("t.db").c_str(), 0644), 0);
  {
    const auto store = open(dir.file("t.db"));
    ASSERT_TRUE(store->put_model(model("b", "{}")).ok());
    EXPECT_EQ(mode("t.db"), 0600U);
    EXPECT_EQ(mode("t.db-wal"), 0600U);
  }
  ::umask(before);
}

}  // namespace
}  // namespace thaw::store
