#include <set>
#include <thread>

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "store/store.h"
#include "unit/temp_dir.h"

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

TEST(SqliteStore, KeepsModelsOverAReopen) {
  const test::TempDir dir;
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

StoredFile file(const char* path, std::int64_t changed = 0) {
  return {path, 1ULL << 40, 1'700'000'000'123'456'789, ~0ULL, std::string(64, 'a'), 5, changed};
}

TEST(SqliteStore, KeepsWhatIsKnownOfFilesOverAReopen) {
  const test::TempDir dir;
  const base::ModelName a("a");
  {
    const auto store = open(dir.file("t.db"));
    ASSERT_TRUE(store->put_model(model("a", "{}")).ok());
    ASSERT_TRUE(store->put_model_files(a, {file("/x"), file("/old")}).ok());
    ASSERT_TRUE(store->put_model_files(a, {file("/z"), file("/b"), file("/b", 7)}).ok());
    ASSERT_TRUE(store->put_model_files(base::ModelName("nobody"), {file("/x")}).ok());
    ASSERT_TRUE(store->put_model(model("a", "{2}")).ok());  // a new spec leaves them
  }
  const auto store = open(dir.file("t.db"));
  const auto files = store->model_files();
  ASSERT_TRUE(files.ok()) << files.error().message;
  ASSERT_EQ(files->size(), 1U);
  EXPECT_EQ(files->at(a), (std::vector<StoredFile>{file("/z"), file("/b"), file("/b", 7)}));
  EXPECT_EQ(*store->delete_model(a), true);
  EXPECT_TRUE(store->model_files()->empty());
}

TEST(SqliteStore, KeepsWhetherMemoryWasEstimated) {
  const test::TempDir dir;
  StoredModel estimated = model("a", "{}");
  estimated.memory_estimated = true;
  {
    const auto store = open(dir.file("t.db"));
    ASSERT_TRUE(store->put_model(estimated).ok());
    ASSERT_TRUE(store->put_model(model("b", "{}")).ok());
  }
  const auto models = open(dir.file("t.db"))->models();
  EXPECT_TRUE(models->at(0).memory_estimated);
  EXPECT_FALSE(models->at(1).memory_estimated);
}

StoredKey key_of(const char* tenant) {
  StoredKey key;
  key.name = "first key";
  key.tenant = base::TenantName(tenant);
  key.salt = std::string("\0salt\xff", 6);
  key.hash = std::string(32, '\0');
  key.created_unix_ms = 5;
  return key;
}

TEST(SqliteStore, KeepsWhatKeysAreGoodFor) {
  const test::TempDir dir;
  StoredKey key = key_of("acme");
  key.role = spec::Role::deployer;
  key.models = {"a", "b.c"};
  key.expires_unix_ms = 77;
  const auto id = open(dir.file("t.db"))->add_key(key);
  ASSERT_TRUE(id.ok());
  const StoredKey kept = open(dir.file("t.db"))->keys()->at(0);
  EXPECT_EQ(kept.role, spec::Role::deployer);
  EXPECT_FALSE(kept.platform);
  EXPECT_EQ(kept.models, (std::vector<std::string>{"a", "b.c"}));
  EXPECT_EQ(kept.expires_unix_ms, 77);
  EXPECT_EQ(kept.last_used_unix_ms, 0);
}

TEST(SqliteStore, ForgetsTheHashOfARevokedKey) {
  const test::TempDir dir;
  const auto store = open(dir.file("t.db"));
  const base::KeyId id = *store->add_key(key_of("acme"));
  EXPECT_EQ(*store->revoke_key(id, 9), true);
  EXPECT_EQ(*store->revoke_key(id, 10), false) << "it was revoked before";
  EXPECT_EQ(*store->revoke_key(base::KeyId(99), 10), false);
  const StoredKey key = store->keys()->at(0);
  EXPECT_EQ(key.revoked_unix_ms, 9);
  EXPECT_TRUE(key.hash.empty());
  EXPECT_TRUE(key.salt.empty());
}

TEST(SqliteStore, ExchangesAKeyAtOnceOrAfterAWhile) {
  const test::TempDir dir;
  const auto store = open(dir.file("t.db"));
  const base::KeyId first = *store->add_key(key_of("acme"));
  const auto second = store->rotate_key(first, key_of("acme"), 500, 100);
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(store->keys()->at(0).expires_unix_ms, 500);
  EXPECT_EQ(store->keys()->at(0).revoked_unix_ms, 0);
  ASSERT_TRUE(store->rotate_key(first, key_of("acme"), 900, 100).ok());
  EXPECT_EQ(store->keys()->at(0).expires_unix_ms, 500) << "an end only comes nearer";
  ASSERT_TRUE(store->rotate_key(*second, key_of("acme"), 100, 100).ok());
  EXPECT_EQ(store->keys()->at(1).revoked_unix_ms, 100);
  const std::size_t count = store->keys()->size();
  EXPECT_FALSE(store->rotate_key(*second, key_of("acme"), 100, 100).ok());
  EXPECT_EQ(store->keys()->size(), count) << "all of it or nothing";
}

TEST(SqliteStore, NotesWhenKeysWereUsedLast) {
  const test::TempDir dir;
  const auto store = open(dir.file("t.db"));
  const base::KeyId id = *store->add_key(key_of("acme"));
  ASSERT_TRUE(store->touch_keys({{id, 50}, {base::KeyId(99), 50}}).ok());
  ASSERT_TRUE(store->touch_keys({{id, 40}}).ok());
  EXPECT_EQ(store->keys()->at(0).last_used_unix_ms, 50);
}

TEST(SqliteStore, KeepsTenantsAndRevokesTheirKeysWithThem) {
  const test::TempDir dir;
  {
    const auto store = open(dir.file("t.db"));
    ASSERT_TRUE(store->put_tenant({base::TenantName("beta"), "{1}", 1, 2}).ok());
    ASSERT_TRUE(store->put_tenant({base::TenantName("acme"), "{1}", 1, 2}).ok());
    ASSERT_TRUE(store->put_tenant({base::TenantName("beta"), "{2}", 1, 3}).ok());
    ASSERT_TRUE(store->add_key(key_of("acme")).ok());
    ASSERT_TRUE(store->add_key(key_of("beta")).ok());
  }
  const auto store = open(dir.file("t.db"));
  ASSERT_EQ(store->tenants()->size(), 2U);
  EXPECT_EQ(store->tenants()->at(1).spec_json, "{2}");
  EXPECT_EQ(store->tenants()->at(1).updated_unix_ms, 3);
  EXPECT_EQ(*store->delete_tenant(base::TenantName("acme"), 8), true);
  EXPECT_EQ(*store->delete_tenant(base::TenantName("acme"), 8), false);
  EXPECT_EQ(store->keys()->at(0).revoked_unix_ms, 8);
  EXPECT_EQ(store->keys()->at(1).revoked_unix_ms, 0);
}

TEST(SqliteStore, KeepsModelsThatWaitForTheirFilesUntilTheyAreThereOrRemoved) {
  const test::TempDir dir;
  {
    const auto store = open(dir.file("t.db"));
    ASSERT_TRUE(store->put_model(model("old", "{old}", 5)).ok());
    ASSERT_TRUE(store->put_pending_model(model("a", "{1}")).ok());
    ASSERT_TRUE(store->put_pending_model(model("a", "{2}", 7)).ok());
    ASSERT_TRUE(store->put_pending_model(model("gone", "{}")).ok());
    ASSERT_TRUE(store->put_pending_model(model("old", "{new}", 8)).ok());
    ASSERT_TRUE(store->delete_model(base::ModelName("gone")).ok());
  }
  const auto store = open(dir.file("t.db"));
  ASSERT_EQ(store->pending_models()->size(), 2U);
  EXPECT_EQ(store->pending_models()->at(0).spec_json, "{2}");
  EXPECT_EQ(store->models()->at(0).spec_json, "{old}") << "it serves until the new one's files are there";
  ASSERT_TRUE(store->put_model(model("old", "{older}", 6)).ok());
  EXPECT_EQ(store->pending_models()->size(), 2U) << "an older spec's files were there, which ends nothing";
  ASSERT_TRUE(store->put_model(model("old", "{new}", 8)).ok());
  ASSERT_EQ(store->pending_models()->size(), 1U);
  EXPECT_EQ(store->pending_models()->at(0).name.str(), "a");
}

TEST(SqliteStore, KeepsKeysWithTheirBytes) {
  const test::TempDir dir;
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

TEST(SqliteStore, ANameKeepsItsNumberAlsoWhenTheModelIsGone) {
  const test::TempDir dir;
  std::uint32_t a = 0;
  {
    const auto store = open(dir.file("t.db"));
    a = *store->model_ref(base::ModelName("a"));
    EXPECT_NE(a, 0U);
    EXPECT_NE(a, *store->model_ref(base::ModelName("b")));
    ASSERT_TRUE(store->put_model(model("a", "{}")).ok());
    ASSERT_TRUE(*store->delete_model(base::ModelName("a")));
  }
  EXPECT_EQ(*open(dir.file("t.db"))->model_ref(base::ModelName("a")), a);
}

TEST(SqliteStore, NeverRepeatsAnId) {
  const test::TempDir dir;
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
  const test::TempDir dir;
  const auto store = open(dir.file("t.db"));
  constexpr int kThreads = 4;
  constexpr int kRounds = 25;
  std::array<std::vector<std::uint64_t>, kThreads> ids;
  std::vector<std::thread> threads;
  for (auto& mine : ids)
    threads.emplace_back([&mine, &store] {
      for (int i = 0; i < kRounds; ++i) {
        mine.push_back(store->reserve_ids("instance", 1).value_or(0));
        (void)store->put_model(model("m", "{}"));
        (void)store->models();
      }
    });
  for (auto& thread : threads) thread.join();
  std::set<std::uint64_t> distinct;
  for (const auto& mine : ids) distinct.insert(mine.begin(), mine.end());
  EXPECT_EQ(distinct.size(), static_cast<std::size_t>(kThreads * kRounds));
  EXPECT_FALSE(distinct.contains(0));
}

TEST(SqliteStore, KeepsItsFilesToItsOwner) {
  const test::TempDir dir;
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
