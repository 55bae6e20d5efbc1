#include <csignal>
#include <fstream>

#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/sqlite/schema.h"
#include "store/store.h"
#include "unit/temp_dir.h"

namespace thaw::store {
namespace {

std::string error_of_opening(const std::string& path) {
  const auto store = open_sqlite(path);
  return store.ok() ? "(no error)" : store.error().message;
}

void execute(const std::string& path, const char* sql) {
  sqlite3* connection = nullptr;
  ASSERT_EQ(sqlite3_open(path.c_str(), &connection), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(connection, sql, nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(connection);
  sqlite3_close(connection);
}

void overwrite(const std::string& path, std::streamoff offset, const std::string& bytes) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(offset);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  ASSERT_TRUE(file.good());
}

/// A database of some hundred pages.
void fill(const std::string& path) {
  const auto store = open_sqlite(path);
  ASSERT_TRUE(store.ok()) << store.error().message;
  for (int i = 0; i < 100; ++i)
    ASSERT_TRUE((*store)->put_model({base::ModelName("m" + std::to_string(i)), std::string(8'000, 'x'), 1, 1}).ok());
}

std::string remedy(const std::string& path) {
  return "; stop thaw, move this file and those beside it that end in -wal and -shm away, then restore a backup or "
         "save what is left "
         "with: sqlite3 MOVED .recover | sqlite3 " +
         path;
}

TEST(DamagedStore, IsRefusedWithTheRemedy) {
  const test::TempDir dir;
  const std::string path = dir.file("t.db");
  fill(path);
  EXPECT_EQ(error_of_opening(path), "(no error)");
  overwrite(path, 4096 * 5, std::string(4096 * 20, '\xa5'));
  const std::string message = error_of_opening(path);
  EXPECT_TRUE(message.starts_with(path + ": the database is damaged (")) << message;
  EXPECT_TRUE(message.ends_with(remedy(path))) << message;
}

TEST(DamagedStore, IsRefusedWhenItIsCutShort) {
  const test::TempDir dir;
  const std::string path = dir.file("t.db");
  fill(path);
  std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
  EXPECT_EQ(error_of_opening(path).substr(0, path.size() + 26), path + ": the database is damaged ");
}

TEST(DamagedStore, IsRefusedWhenItIsNoDatabase) {
  const test::TempDir dir;
  const std::string path = dir.file("t.db");
  std::ofstream(path) << std::string(5'000, 'x');
  EXPECT_EQ(error_of_opening(path), path + ": the database is damaged (file is not a database)" + remedy(path));
}

TEST(ForeignStore, IsRefused) {
  const test::TempDir dir;
  const std::string path = dir.file("t.db");
  execute(path, "CREATE TABLE contacts(name)");
  EXPECT_EQ(error_of_opening(path), path + ": this is another program's database; choose another data directory");
}

TEST(NewerStore, IsRefusedAndLeftAlone) {
  const test::TempDir dir;
  const std::string path = dir.file("t.db");
  fill(path);
  execute(path, "PRAGMA user_version = 99");
  const std::string wanted =
      path + ": written by a newer thaw (schema 99, this one knows " + std::to_string(newest_schema()) +
      "); run that version, or restore the backup made before the upgrade";
  EXPECT_EQ(error_of_opening(path), wanted);
  EXPECT_EQ(error_of_opening(path), wanted);
  execute(path, ("PRAGMA user_version = " + std::to_string(newest_schema())).c_str());
  EXPECT_EQ(error_of_opening(path), "(no error)");
}

TEST(EmptyFile, BecomesAStore) {
  const test::TempDir dir;
  const std::string path = dir.file("t.db");
  std::ofstream(path).close();
  EXPECT_EQ(error_of_opening(path), "(no error)");
}

TEST(MissingDirectory, IsNamedWithTheRemedy) {
  const test::TempDir dir;
  const std::string path = dir.file("no/such/t.db");
  EXPECT_EQ(error_of_opening(path),
            "cannot create " + path + ": No such file or directory; create its directory first");
}

}  // namespace
}  // namespace thaw::store
