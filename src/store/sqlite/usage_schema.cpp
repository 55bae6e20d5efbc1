#include "store/sqlite/usage_schema.h"

#include <array>

#include <fmt/format.h>

namespace thaw::store {
namespace {

constexpr std::int64_t kApplicationId = 0x54685573;  // "ThUs"

/// Step i leads from version i to i + 1. Steps that were released never change.
constexpr std::array kSteps{
    // requests: by seq, which grows with time but for requests that take longer than others, so that rows are appended at the end of the tree or near
    // it, and no row can be there twice. No other index: it would cost each request more than the whole row.
    R"(CREATE TABLE starts(start INTEGER PRIMARY KEY AUTOINCREMENT, tag INTEGER NOT NULL, unix_ms INTEGER NOT NULL);
       CREATE TABLE tenants(ref INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE);
       CREATE TABLE models(ref INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE);
       CREATE TABLE requests(seq INTEGER PRIMARY KEY, arrived_unix_ms INTEGER NOT NULL, total_ms INTEGER NOT NULL, tenant INTEGER NOT NULL,
                             key INTEGER NOT NULL, model INTEGER NOT NULL, outcome INTEGER NOT NULL, way INTEGER NOT NULL,
                             dispatched INTEGER NOT NULL, status INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL,
                             completion_tokens INTEGER NOT NULL, wait_us INTEGER NOT NULL, service_us INTEGER NOT NULL, start_us INTEGER NOT NULL);
       CREATE TABLE daily(day INTEGER NOT NULL, tenant INTEGER NOT NULL, key INTEGER NOT NULL, model INTEGER NOT NULL, requests INTEGER NOT NULL,
                          ok INTEGER NOT NULL, failed INTEGER NOT NULL, refused INTEGER NOT NULL, cancelled INTEGER NOT NULL,
                          interrupted INTEGER NOT NULL, cold INTEGER NOT NULL, restored INTEGER NOT NULL, woken INTEGER NOT NULL,
                          prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, wait_us INTEGER NOT NULL,
                          service_us INTEGER NOT NULL, start_us INTEGER NOT NULL, PRIMARY KEY(day, tenant, key, model)) WITHOUT ROWID;)",
};
constexpr auto kNewest = static_cast<std::int64_t>(kSteps.size());
constexpr std::int64_t kMaxWholeCheck_bytes = 64LL << 20;

/// What is small is checked whole; of years of rows only the sums, so that a start does not wait for them.
base::Status check_intact(Database& database) {
  THAW_ASSIGN_OR_RETURN(const std::int64_t pages, database.integer("PRAGMA page_count"));
  THAW_ASSIGN_OR_RETURN(const std::int64_t page_bytes, database.integer("PRAGMA page_size"));
  const bool whole = pages * page_bytes <= kMaxWholeCheck_bytes;
  THAW_ASSIGN_OR_RETURN(Statement statement, database.prepare(whole ? "PRAGMA quick_check(1)" : "PRAGMA quick_check(daily)"));
  std::string finding;
  THAW_RETURN_IF_ERROR(statement.each([&finding](const Row& row) {
    if (finding.empty()) finding = row.bytes(0);
  }));
  if (finding != "ok") return corrupt_error(database.path(), finding);
  return {};
}

base::Result<std::int64_t> version_of(Database& database) {
  THAW_ASSIGN_OR_RETURN(const std::int64_t id, database.integer("PRAGMA application_id"));
  THAW_ASSIGN_OR_RETURN(const std::int64_t tables, database.integer("SELECT count(*) FROM sqlite_schema"));
  THAW_ASSIGN_OR_RETURN(const std::int64_t version, database.integer("PRAGMA user_version"));
  if (id != kApplicationId && (id != 0 || tables != 0))
    return base::Error{base::ErrorKind::conflict, database.path() + ": this is another program's database; choose another data directory"};
  if (version > kNewest)
    return base::Error{base::ErrorKind::conflict,
                       fmt::format("{}: written by a newer thaw (schema {}, this one knows {}); run that version, or move the file away: usage "
                                   "begins anew then",
                                   database.path(), version, kNewest)};
  return version;
}

/// All of `sql` or nothing of it.
base::Status in_transaction(Database& database, const std::string& sql) {
  THAW_RETURN_IF_ERROR(database.execute("BEGIN IMMEDIATE"));
  base::Status status = database.execute(sql);
  if (status) status = database.execute("COMMIT");
  if (!status) (void)database.execute("ROLLBACK");
  return status;
}

}  // namespace

base::Status prepare_usage_schema(Database& database) {
  THAW_ASSIGN_OR_RETURN(const std::int64_t version, version_of(database));
  if (version > 0) THAW_RETURN_IF_ERROR(check_intact(database));
  // secure_delete: what a tenant's erasure removes is overwritten, not only forgotten.
  THAW_RETURN_IF_ERROR(
      database.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA journal_size_limit = 67108864;"));
  if (version == kNewest) return {};
  std::string sql;
  for (auto step = static_cast<std::size_t>(version); step < kSteps.size(); ++step) sql += kSteps.at(step);
  return in_transaction(database, sql + fmt::format("PRAGMA application_id = {}; PRAGMA user_version = {};", kApplicationId, kNewest));
}

base::Status take_former_usage(Database& database, const std::string& former_store) {
  std::string quoted;
  for (const char c : former_store) quoted += c == '\'' ? std::string("''") : std::string(1, c);
  THAW_RETURN_IF_ERROR(database.execute("ATTACH DATABASE '" + quoted + "' AS former"));
  const auto take = [&]() -> base::Status {
    THAW_ASSIGN_OR_RETURN(const std::int64_t table, database.integer("SELECT count(*) FROM former.sqlite_schema WHERE name = 'usage'"));
    if (table == 0) return {};
    THAW_ASSIGN_OR_RETURN(const std::int64_t some, database.integer("SELECT EXISTS(SELECT 1 FROM former.usage)"));
    if (some == 0) return {};
    // Numbers below 2^40 are of no start: they are the former rows', and there when a crash came between the copy and the removal.
    THAW_ASSIGN_OR_RETURN(const std::int64_t taken, database.integer("SELECT EXISTS(SELECT 1 FROM requests WHERE seq < 1099511627776)"));
    if (taken == 0)
      THAW_RETURN_IF_ERROR(in_transaction(database, R"(
        INSERT OR IGNORE INTO tenants(name) VALUES('default');
        INSERT OR IGNORE INTO models(name) SELECT name FROM former.model_refs;
        INSERT INTO requests
          SELECT u.rowid, u.unix_ms - u.total_ms, u.total_ms, (SELECT ref FROM tenants WHERE name = 'default'), u.key, m.ref,
                 CASE WHEN u.status = 499 THEN 3 WHEN u.status >= 400 THEN 1 ELSE 0 END, CASE WHEN u.cold THEN 3 ELSE 0 END, 1, u.status,
                 u.prompt_tokens, u.completion_tokens, u.queued_ms * 1000, 0, 0
          FROM former.usage u JOIN former.model_refs r ON r.ref = u.model JOIN models m ON m.name = r.name;
        INSERT INTO daily
          SELECT (arrived_unix_ms + total_ms) / 86400000, tenant, key, model, count(*), sum(outcome = 0), sum(outcome = 1), 0, sum(outcome = 3), 0,
                 sum(way = 3), 0, 0, sum(prompt_tokens), sum(completion_tokens), sum(wait_us), 0, 0
          FROM requests WHERE seq < 1099511627776 GROUP BY 1, 2, 3, 4;)"));
    return database.execute("DELETE FROM former.usage");
  };
  const base::Status taken = take();
  const base::Status detached = database.execute("DETACH DATABASE former");
  return taken ? detached : taken;
}

}  // namespace thaw::store
