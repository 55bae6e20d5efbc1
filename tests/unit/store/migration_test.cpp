// Stores of every older schema version, as a thaw of then left them (tests/fixtures/store), opened by this one.
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include "store/sqlite/schema.h"
#include "store/store.h"
#include "unit/temp_dir.h"

namespace thaw::store {
namespace {

std::string fixture(std::int64_t version) {
  const std::string path = std::string(THAW_SOURCE_DIR) + "/tests/fixtures/store/v" + std::to_string(version) + ".sql";
  std::ifstream file(path);
  EXPECT_TRUE(file.good()) << path << ": a schema version needs its fixture";
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void execute(const std::string& path, const std::string& sql) {
  sqlite3* connection = nullptr;
  ASSERT_EQ(sqlite3_open(path.c_str(), &connection), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(connection, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(connection);
  sqlite3_close(connection);
}

/// Of one row and column; -1: the statement fails.
std::int64_t number(const std::string& path, const std::string& sql) {
  sqlite3* connection = nullptr;
  sqlite3_stmt* statement = nullptr;
  std::int64_t value = -1;
  if (sqlite3_open(path.c_str(), &connection) == SQLITE_OK &&
      sqlite3_prepare_v2(connection, sql.c_str(), -1, &statement, nullptr) == SQLITE_OK &&
      sqlite3_step(statement) == SQLITE_ROW)
    value = sqlite3_column_int64(statement, 0);
  sqlite3_finalize(statement);
  sqlite3_close(connection);
  return value;
}

class Migration : public ::testing::TestWithParam<std::int64_t> {
 protected:
  void SetUp() override { execute(path_, fixture(GetParam())); }
  [[nodiscard]] bool since(std::int64_t version) const { return GetParam() >= version; }
  test::TempDir directory_;
  std::string path_ = directory_.file("thaw.db");
};

std::vector<std::int64_t> older_versions() {
  std::vector<std::int64_t> versions;
  for (std::int64_t version = 1; version < newest_schema(); ++version) versions.push_back(version);
  return versions;
}

INSTANTIATE_TEST_SUITE_P(FromEachVersion, Migration, ::testing::ValuesIn(older_versions()),
                         [](const auto& instance) { return "v" + std::to_string(instance.param); });

TEST_P(Migration, LeadsToTheNewestAndKeepsWhatItWas) {
  struct stat status {};
  {
    const auto store = open_sqlite(path_);
    ASSERT_TRUE(store.ok()) << store.error().message;
  }
  EXPECT_EQ(number(path_, "PRAGMA user_version"), newest_schema());
  EXPECT_EQ(number(path_, "PRAGMA foreign_key_check"), -1);
  const std::string backup = backup_of_schema(path_, GetParam());
  EXPECT_EQ(number(backup, "PRAGMA user_version"), GetParam());
  EXPECT_EQ(number(backup, "SELECT count(*) FROM models"), since(4) ? 3 : 2);
  ASSERT_EQ(::stat(backup.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0600U) << "it has the keys' hashes";
  ASSERT_TRUE(open_sqlite(path_).ok()) << "the second start finds nothing to do";
}

TEST_P(Migration, LosesNoModel) {
  const auto store = *open_sqlite(path_);
  const auto models = store->models();
  ASSERT_TRUE(models.ok()) << models.error().message;
  std::map<std::string, StoredModel> by_name;
  for (const StoredModel& model : *models) by_name[model.name.str()] = model;
  ASSERT_EQ(by_name.size(), since(4) ? 3U : 2U);
  EXPECT_EQ(by_name.at("chat").created_unix_ms, 1'700'000'000'001);
  EXPECT_EQ(by_name.at("chat").updated_unix_ms, 1'700'000'000'002);
  EXPECT_NE(by_name.at("chat").spec_json.find("/models/chat.gguf"), std::string::npos);
  EXPECT_EQ(by_name.at("chat").memory_estimated, since(2));
  EXPECT_FALSE(by_name.at("it's").memory_estimated);
  if (since(4)) {
    EXPECT_NE(by_name.at("acme~chat").spec_json.find("/models/acme.gguf"), std::string::npos);
  }
  ASSERT_EQ(store->pending_models()->size(), since(3) ? 1U : 0U);
  if (since(3)) {
    EXPECT_EQ(store->pending_models()->at(0).spec_json, R"({"far":1})");
    EXPECT_EQ(store->pending_models()->at(0).takeover_timeout_ms, 0);
  }
  const auto files = store->model_files();
  ASSERT_EQ(files->size(), since(2) ? 1U : 0U);
  if (since(2)) {
    const std::vector<StoredFile>& of_chat = files->at(base::ModelName("chat"));
    ASSERT_EQ(of_chat.size(), 2U);
    EXPECT_EQ(of_chat[0].mtime_ns, 1'700'000'000'000'000'001U);
    EXPECT_EQ(of_chat[0].sha256.size(), 64U);
    EXPECT_EQ(of_chat[1].changed_unix_ms, 1'700'000'000'600);
  }
  EXPECT_TRUE(store->put_model_files(base::ModelName("it's"), {{"/b", 1, 2, 3, "", 0, 0}}).ok());
}

TEST_P(Migration, MakesWhatWasDeployedTheFirstRevision) {
  const auto store = *open_sqlite(path_);
  const auto models = store->models();
  const auto revisions = store->revisions();
  const auto rollouts = store->rollouts();
  ASSERT_TRUE(revisions.ok()) << revisions.error().message;
  ASSERT_EQ(revisions->size(), models->size());
  ASSERT_EQ(rollouts->size(), models->size());
  for (std::size_t i = 0; i < models->size(); ++i) {
    const StoredModel& model = models->at(i);
    EXPECT_EQ(revisions->at(i), (StoredRevision{model.name, 1, model.spec_json, model.name, model.memory_estimated, model.updated_unix_ms,
                                                model.updated_unix_ms, ""}));
    EXPECT_EQ(rollouts->at(i), (StoredRollout{model.name, 1, 0, 0, 0}));
  }
}

TEST_P(Migration, LosesNoKeyAndNoRight) {
  const auto store = *open_sqlite(path_);
  const auto keys = store->keys();
  ASSERT_TRUE(keys.ok()) << keys.error().message;
  ASSERT_EQ(keys->size(), since(4) ? 4U : 2U);
  EXPECT_EQ(keys->at(0).id, base::KeyId(1));
  EXPECT_EQ(keys->at(0).salt.size(), 16U);
  EXPECT_EQ(keys->at(0).hash, std::string(32, '\xab'));
  EXPECT_EQ(keys->at(1).id, base::KeyId(7));
  for (std::size_t i = 0; i < 2; ++i) {  // keys of then could do everything
    EXPECT_EQ(keys->at(i).role, spec::Role::admin);
    EXPECT_TRUE(keys->at(i).platform);
    EXPECT_TRUE(keys->at(i).models.empty());
    EXPECT_EQ(keys->at(i).expires_unix_ms, 0);
  }
  ASSERT_EQ(store->tenants()->size(), since(4) ? 1U : 0U);
  if (since(4)) {
    EXPECT_EQ(keys->at(2).role, spec::Role::inference);
    EXPECT_FALSE(keys->at(2).platform);
    EXPECT_EQ(keys->at(2).models, (std::vector<std::string>{"chat", "code"}));
    EXPECT_EQ(keys->at(2).expires_unix_ms, 1'800'000'000'000);
    EXPECT_EQ(keys->at(2).last_used_unix_ms, 1'700'000'000'700);
    EXPECT_EQ(keys->at(3).revoked_unix_ms, 1'700'000'000'800);
    EXPECT_EQ(store->tenants()->at(0).spec_json, R"({"acme":1})");
  }
  StoredKey key;
  key.tenant = base::TenantName("default");
  const auto id = store->add_key(key);
  ASSERT_TRUE(id.ok()) << id.error().message;
  EXPECT_GT(*id, keys->back().id) << "an id never comes back";
}

TEST_P(Migration, RepeatsNoNumber) {
  const auto store = *open_sqlite(path_);
  EXPECT_EQ(store->model_ref(base::ModelName("chat")).value_or(0), 1U);
  EXPECT_EQ(store->model_ref(base::ModelName("removed")).value_or(0), 2U);
  EXPECT_EQ(store->model_ref(base::ModelName("new")).value_or(0), 4U);
  EXPECT_EQ(store->reserve_ids("instance", 10).value_or(0), 3'000'001U);
  EXPECT_EQ(number(path_, "SELECT sum(prompt_tokens) FROM usage"), 6) << "usage.db takes them over later";
}

TEST_P(Migration, ThatFailsHalfWayChangesNothing) {
  // Something is in the way of one of the last steps: those before it succeed first.
  const std::int64_t tables = number(path_, "SELECT count(*) FROM sqlite_schema");
  execute(path_, since(5) ? "ALTER TABLE pending_models ADD COLUMN takeover_timeout_ms" : "CREATE TABLE rollouts(in_the_way)");
  const auto store = open_sqlite(path_);
  ASSERT_FALSE(store.ok());
  EXPECT_NE(store.error().message.find("nothing was changed"), std::string::npos) << store.error().message;
  EXPECT_EQ(number(path_, "PRAGMA user_version"), GetParam());
  EXPECT_EQ(number(path_, "SELECT count(*) FROM sqlite_schema"), tables + (since(5) ? 0 : 1));
  EXPECT_EQ(number(path_, "SELECT timeout_ms FROM rollouts"), -1) << "the column of the step that succeeded is gone again";
  EXPECT_EQ(number(path_, "SELECT count(*) FROM models"), since(4) ? 3 : 2);
  execute(path_, since(5) ? "ALTER TABLE pending_models DROP COLUMN takeover_timeout_ms" : "DROP TABLE rollouts");
  EXPECT_TRUE(open_sqlite(path_).ok());
}

TEST_P(Migration, IsNotBegunWithoutACopy) {
  const std::string backup = backup_of_schema(path_, GetParam());
  ASSERT_EQ(::mkdir((backup + ".part").c_str(), 0700), 0);
  const auto store = open_sqlite(path_);
  ASSERT_FALSE(store.ok());
  EXPECT_NE(store.error().message.find(backup), std::string::npos) << store.error().message;
  EXPECT_EQ(number(path_, "PRAGMA user_version"), GetParam());
}

}  // namespace
}  // namespace thaw::store
