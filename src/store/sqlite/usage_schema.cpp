#include "store/sqlite/usage_schema.h"

#include <array>

#include <fmt/format.h>

#include "store/sqlite/usage_packs.h"

namespace thaw::store {
namespace {

constexpr std::int64_t kApplicationId = 0x54685573;  // "ThUs"

/// Step i leads from version i to i + 1. Steps that were released never change.
constexpr std::array kSteps{
    // requests: by seq, which grows with time but for requests that take longer than others, so that rows are appended
    // at the end of the tree or near
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
    // packs: the rows of a group as one value (usage_pack.h), in the order in which they ended; what stands beside it
    // spares reading it. What was in
    // requests goes there (pack_former_rows).
    R"(CREATE TABLE packs(pack INTEGER PRIMARY KEY AUTOINCREMENT, first_arrived_ms INTEGER NOT NULL, last_arrived_ms INTEGER NOT NULL,
                          last_ended_ms INTEGER NOT NULL, first_seq INTEGER NOT NULL, rows BLOB NOT NULL);)",
};
constexpr std::int64_t kPacksSince = 2;  // version
constexpr auto kNewest = static_cast<std::int64_t>(kSteps.size());
constexpr std::int64_t kMaxWholeCheck_bytes = 64LL << 20;

/// What is small is checked whole; of years of rows only the sums, so that a start does not wait for them.
base::Status check_intact(Database& database) {
  THAW_ASSIGN_OR_RETURN(const std::int64_t pages, database.integer("PRAGMA page_count"));
  THAW_ASSIGN_OR_RETURN(const std::int64_t page_bytes, database.integer("PRAGMA page_size"));
  const bool whole = pages * page_bytes <= kMaxWholeCheck_bytes;
  THAW_ASSIGN_OR_RETURN(Statement statement,
                        database.prepare(whole ? "PRAGMA quick_check(1)" : "PRAGMA quick_check(daily)"));
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
    return base::Error{base::ErrorKind::conflict,
                       database.path() + ": this is another program's database; choose another data directory"};
  if (version > kNewest)
    return base::Error{base::ErrorKind::conflict, fmt::format("{}: written by a newer thaw (schema {}, this one knows "
                                                              "{}); run that version, or move the file away: usage "
                                                              "begins anew then",
                                                              database.path(), version, kNewest)};
  return version;
}

/// All of `work` or nothing of it.
template <typename Work>
base::Status in_transaction(Database& database, const Work& work) {
  THAW_RETURN_IF_ERROR(database.execute("BEGIN IMMEDIATE"));
  base::Status status = work();
  if (status) status = database.execute("COMMIT");
  if (!status) (void)database.execute("ROLLBACK");
  return status;
}

/// `select` has the columns of the former table requests.
base::Status pack_former_rows(Database& database, const std::string& select) {
  THAW_ASSIGN_OR_RETURN(Statement rows, database.prepare(select));
  THAW_ASSIGN_OR_RETURN(PackWriter writer, PackWriter::prepare(database));
  base::Status status;
  const base::Status read = rows.each([&](const Row& row) {
    if (!status) return;
    PackedRow one;
    int column = 0;
    one.seq = row.natural(column++);
    one.arrived_unix_ms = row.integer(column++);
    one.total_ms = row.integer(column++);
    for (std::uint64_t* value : {&one.tenant, &one.key, &one.model}) *value = row.natural(column++);
    for (std::uint8_t* value : {&one.outcome, &one.way}) *value = static_cast<std::uint8_t>(row.integer(column++));
    one.dispatched = row.integer(column++) != 0;
    one.status = static_cast<std::uint16_t>(row.integer(column++));
    for (std::uint32_t* value : {&one.prompt_tokens, &one.completion_tokens})
      *value = static_cast<std::uint32_t>(row.integer(column++));
    for (std::uint64_t* value : {&one.wait_us, &one.service_us, &one.start_us}) *value = row.natural(column++);
    status = writer.add(one);
  });
  THAW_RETURN_IF_ERROR(read);
  THAW_RETURN_IF_ERROR(status);
  return writer.finish();
}

}  // namespace

base::Status prepare_usage_schema(Database& database) {
  THAW_ASSIGN_OR_RETURN(const std::int64_t version, version_of(database));
  if (version > 0) THAW_RETURN_IF_ERROR(check_intact(database));
  // secure_delete: what a tenant's erasure removes is overwritten, not only forgotten.
  THAW_RETURN_IF_ERROR(
      database.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA "
                       "journal_size_limit = 67108864;"));
  if (version == kNewest) return {};
  std::string sql;
  for (auto step = static_cast<std::size_t>(version); step < kSteps.size(); ++step) sql += kSteps.at(step);
  return in_transaction(database, [&]() -> base::Status {
    THAW_RETURN_IF_ERROR(database.execute(sql));
    if (version < kPacksSince) {
      THAW_RETURN_IF_ERROR(pack_former_rows(database, "SELECT * FROM requests ORDER BY seq"));
      THAW_RETURN_IF_ERROR(database.execute("DROP TABLE requests"));
    }
    return database.execute(
        fmt::format("PRAGMA application_id = {}; PRAGMA user_version = {};", kApplicationId, kNewest));
  });
}

base::Status take_former_usage(Database& database, const std::string& former_store) {
  std::string quoted;
  for (const char c : former_store) quoted += c == '\'' ? std::string("''") : std::string(1, c);
  THAW_RETURN_IF_ERROR(database.execute("ATTACH DATABASE '" + quoted + "' AS former"));
  const auto take = [&]() -> base::Status {
    THAW_ASSIGN_OR_RETURN(const std::int64_t table,
                          database.integer("SELECT count(*) FROM former.sqlite_schema WHERE name = 'usage'"));
    if (table == 0) return {};
    THAW_ASSIGN_OR_RETURN(const std::int64_t some, database.integer("SELECT EXISTS(SELECT 1 FROM former.usage)"));
    if (some == 0) return {};
    // Numbers below 2^40 are of no start: they are the former rows', and there when a crash came between the copy and
    // the removal.
    THAW_ASSIGN_OR_RETURN(const std::int64_t taken,
                          database.integer("SELECT EXISTS(SELECT 1 FROM packs WHERE first_seq < 1099511627776)"));
    const base::Status copied = taken != 0 ? base::Status{} : in_transaction(database, [&]() -> base::Status {
      THAW_RETURN_IF_ERROR(database.execute(R"(
        INSERT OR IGNORE INTO tenants(name) VALUES('default');
        INSERT OR IGNORE INTO models(name) SELECT name FROM former.model_refs;
        CREATE TEMP TABLE taken AS
          SELECT u.rowid AS seq, u.unix_ms - u.total_ms AS arrived_unix_ms, u.total_ms AS total_ms,
                 (SELECT ref FROM tenants WHERE name = 'default') AS tenant, u.key AS key, m.ref AS model,
                 CASE WHEN u.status = 499 THEN 3 WHEN u.status >= 400 THEN 1 ELSE 0 END AS outcome, CASE WHEN u.cold THEN 3 ELSE 0 END AS way, 1,
                 u.status, u.prompt_tokens AS prompt_tokens, u.completion_tokens AS completion_tokens, u.queued_ms * 1000 AS wait_us, 0, 0
          FROM former.usage u JOIN former.model_refs r ON r.ref = u.model JOIN models m ON m.name = r.name;
        INSERT INTO daily
          SELECT (arrived_unix_ms + total_ms) / 86400000, tenant, key, model, count(*), sum(outcome = 0), sum(outcome = 1), 0, sum(outcome = 3), 0,
                 sum(way = 3), 0, 0, sum(prompt_tokens), sum(completion_tokens), sum(wait_us), 0, 0
          FROM taken GROUP BY 1, 2, 3, 4;)"));
      THAW_RETURN_IF_ERROR(pack_former_rows(database, "SELECT * FROM taken ORDER BY seq"));
      return database.execute("DROP TABLE taken");
    });
    THAW_RETURN_IF_ERROR(copied);
    return database.execute("DELETE FROM former.usage");
  };
  const base::Status taken = take();
  const base::Status detached = database.execute("DETACH DATABASE former");
  return taken ? detached : taken;
}

}  // namespace thaw::store
