#include "store/sqlite/schema.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>

#include <fmt/format.h>

namespace thaw::store {
namespace {

constexpr std::int64_t kApplicationId =
    0x54686177;  // "Thaw", in the header of the file (sqlite.org/fileformat2.html#appid)

/// Step i leads from schema version i to i + 1. Steps that were released never change; new ones are added at the end.
constexpr std::array kSteps{
    // AUTOINCREMENT: an id never comes back, so that old usage rows cannot be taken for those of a newer key or model.
    // usage has no index: it is appended to many thousand times a second and summed rarely, by a scan.
    R"(CREATE TABLE models(name TEXT PRIMARY KEY, spec_json TEXT NOT NULL, created_unix_ms INTEGER NOT NULL,
                           updated_unix_ms INTEGER NOT NULL) WITHOUT ROWID;
       CREATE TABLE keys(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, tenant TEXT NOT NULL, salt BLOB NOT NULL,
                         hash BLOB NOT NULL, created_unix_ms INTEGER NOT NULL);
       CREATE TABLE model_refs(ref INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE);
       CREATE TABLE counters(name TEXT PRIMARY KEY, next INTEGER NOT NULL) WITHOUT ROWID;
       CREATE TABLE usage(unix_ms INTEGER NOT NULL, key INTEGER NOT NULL, model INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL,
                          completion_tokens INTEGER NOT NULL, queued_ms INTEGER NOT NULL, total_ms INTEGER NOT NULL,
                          status INTEGER NOT NULL, cold INTEGER NOT NULL);)",
    R"(ALTER TABLE models ADD COLUMN memory_estimated INTEGER NOT NULL DEFAULT 0;
       CREATE TABLE model_files(model TEXT NOT NULL, position INTEGER NOT NULL, path TEXT NOT NULL, bytes INTEGER NOT NULL,
                                mtime_ns INTEGER NOT NULL, inode INTEGER NOT NULL, sha256 TEXT NOT NULL,
                                verified_unix_ms INTEGER NOT NULL, changed_unix_ms INTEGER NOT NULL,
                                PRIMARY KEY(model, position)) WITHOUT ROWID;)",
    R"(CREATE TABLE pending_models(name TEXT PRIMARY KEY, spec_json TEXT NOT NULL, created_unix_ms INTEGER NOT NULL,
                                   updated_unix_ms INTEGER NOT NULL, memory_estimated INTEGER NOT NULL) WITHOUT ROWID;)",
    // Keys from before there were roles could do everything, and still can.
    R"(ALTER TABLE keys ADD COLUMN role TEXT NOT NULL DEFAULT 'admin';
       ALTER TABLE keys ADD COLUMN platform INTEGER NOT NULL DEFAULT 1;
       ALTER TABLE keys ADD COLUMN models TEXT NOT NULL DEFAULT '';
       ALTER TABLE keys ADD COLUMN expires_unix_ms INTEGER NOT NULL DEFAULT 0;
       ALTER TABLE keys ADD COLUMN revoked_unix_ms INTEGER NOT NULL DEFAULT 0;
       ALTER TABLE keys ADD COLUMN last_used_unix_ms INTEGER NOT NULL DEFAULT 0;
       CREATE TABLE tenants(name TEXT PRIMARY KEY, spec_json TEXT NOT NULL, created_unix_ms INTEGER NOT NULL,
                            updated_unix_ms INTEGER NOT NULL) WITHOUT ROWID;)",
    // What was deployed before there were revisions is the first one.
    R"(CREATE TABLE revisions(model TEXT NOT NULL, number INTEGER NOT NULL, spec_json TEXT NOT NULL, runs_as TEXT NOT NULL,
                              memory_estimated INTEGER NOT NULL, created_unix_ms INTEGER NOT NULL, served_unix_ms INTEGER NOT NULL,
                              failure TEXT NOT NULL, PRIMARY KEY(model, number)) WITHOUT ROWID;
       CREATE TABLE rollouts(model TEXT PRIMARY KEY, active INTEGER NOT NULL, candidate INTEGER NOT NULL, percent INTEGER NOT NULL) WITHOUT ROWID;
       INSERT INTO revisions SELECT name, 1, spec_json, name, memory_estimated, updated_unix_ms, updated_unix_ms, '' FROM models;
       INSERT INTO rollouts SELECT name, 1, 0, 0 FROM models;)",
    // 0: nobody asked for another time than the default.
    R"(ALTER TABLE rollouts ADD COLUMN timeout_ms INTEGER NOT NULL DEFAULT 0;
       ALTER TABLE pending_models ADD COLUMN takeover_timeout_ms INTEGER NOT NULL DEFAULT 0;)",
};
constexpr auto kNewest = static_cast<std::int64_t>(kSteps.size());

// A check reads all it checks. Above this size only the tables that serving depends on are read, so that years of usage
// do not delay a start; damage in the usage table then shows when it is read.
constexpr std::int64_t kMaxWholeCheck_bytes = 64LL << 20;
constexpr std::array kVitalTables{"models", "keys", "model_refs", "counters", "model_files", "pending_models", "tenants", "revisions", "rollouts"};

base::Status quick_check(Database& database, const std::string& argument) {
  THAW_ASSIGN_OR_RETURN(Statement statement, database.prepare("PRAGMA quick_check(" + argument + ")"));
  std::string finding;
  THAW_RETURN_IF_ERROR(statement.each([&finding](const Row& row) {
    if (finding.empty()) finding = row.bytes(0);
  }));
  if (finding != "ok") return corrupt_error(database.path(), finding);
  return {};
}

base::Status check_intact(Database& database) {
  THAW_ASSIGN_OR_RETURN(const std::int64_t pages, database.integer("PRAGMA page_count"));
  THAW_ASSIGN_OR_RETURN(const std::int64_t page_bytes, database.integer("PRAGMA page_size"));
  if (pages * page_bytes <= kMaxWholeCheck_bytes) return quick_check(database, "1");
  for (const char* table : kVitalTables) THAW_RETURN_IF_ERROR(quick_check(database, table));
  return {};
}

/// The schema version of a database of ours; 0 when it is empty.
base::Result<std::int64_t> version_of(Database& database) {
  THAW_ASSIGN_OR_RETURN(const std::int64_t id, database.integer("PRAGMA application_id"));
  THAW_ASSIGN_OR_RETURN(const std::int64_t tables, database.integer("SELECT count(*) FROM sqlite_schema"));
  if (id != kApplicationId && (id != 0 || tables != 0))
    return base::Error{base::ErrorKind::conflict,
                       database.path() + ": this is another program's database; choose another data directory"};
  THAW_ASSIGN_OR_RETURN(const std::int64_t version, database.integer("PRAGMA user_version"));
  if (version > kNewest)
    return base::Error{
        base::ErrorKind::conflict,
        fmt::format(
            "{}: written by a newer thaw (schema {}, this one knows {}); run that version, or restore the backup "
            "made before the upgrade",
            database.path(), version, kNewest)};
  return version;
}

/// Within a transaction: the version is read again, since another process may have been first.
base::Status migrate(Database& database) {
  THAW_ASSIGN_OR_RETURN(const std::int64_t version, version_of(database));
  for (auto step = static_cast<std::size_t>(version); step < kSteps.size(); ++step)
    THAW_RETURN_IF_ERROR(database.execute(kSteps.at(step)));
  return database.execute(
      fmt::format("PRAGMA application_id = {}; PRAGMA user_version = {};", kApplicationId, kNewest));
}

/// A copy that is whole or not there, for the owner alone. One that is there already, of a migration that failed, is replaced.
base::Status back_up(Database& database, std::int64_t version) {
  const std::string target = backup_of_schema(database.path(), version);
  const std::string part = target + ".part";
  const auto failed = [&](const std::string& why) {
    ::unlink(part.c_str());
    return base::Error{base::ErrorKind::io, fmt::format("{} is not migrated from schema {} to {}, because it could not be copied to {} first: {}; free "
                                                        "some space on its disk, then start again",
                                                        database.path(), version, kNewest, target, why)};
  };
  const int fd = ::open(part.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return failed(base::errno_error("cannot create it", errno).message);
  ::close(fd);
  std::string quoted;
  for (const char c : part) quoted += c == '\'' ? std::string("''") : std::string(1, c);
  if (const base::Status copied = database.execute("VACUUM INTO '" + quoted + "'"); !copied.ok()) return failed(copied.error().message);
  if (::rename(part.c_str(), target.c_str()) != 0) return failed(base::errno_error("cannot name it", errno).message);
  return {};
}

}  // namespace

std::int64_t newest_schema() { return kNewest; }

std::string backup_of_schema(const std::string& path, std::int64_t version) { return fmt::format("{}.schema-{}.bak", path, version); }

base::Status prepare_schema(Database& database) {
  THAW_ASSIGN_OR_RETURN(const std::int64_t version, version_of(database));
  if (version > 0) THAW_RETURN_IF_ERROR(check_intact(database));
  // FULL, for usage too: everything on disk when a call returns, also after a power cut, and one rule to remember. With
  // WAL it costs one fdatasync a commit, and usage commits in groups.
  THAW_RETURN_IF_ERROR(
      database.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 67108864;"));
  if (version == kNewest) return {};
  if (version > 0) THAW_RETURN_IF_ERROR(back_up(database, version));
  THAW_RETURN_IF_ERROR(database.execute("BEGIN IMMEDIATE"));
  base::Status status = migrate(database);
  if (status) status = database.execute("COMMIT");
  if (status) return status;
  (void)database.execute("ROLLBACK");
  if (version == 0) return status;
  return status.error().within(fmt::format("cannot migrate from schema {} to {}; nothing was changed, and the version that wrote it still runs", version, kNewest));
}

}  // namespace thaw::store
