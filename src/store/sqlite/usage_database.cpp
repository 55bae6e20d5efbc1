#include "store/sqlite/usage_database.h"

#include <algorithm>
#include <cerrno>
#include <map>
#include <mutex>
#include <tuple>
#include <unordered_map>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <unistd.h>

#include "store/sqlite/usage_schema.h"

namespace thaw::store {
namespace {

constexpr int kRequestColumns = 15;
constexpr int kDailyColumns = 18;
constexpr std::size_t kRowsAtOnce = 64;  // a statement of many rows takes half the time a row
constexpr std::int64_t kRowsPerTidy = 5'000;  // removed in one transaction: others wait for it

std::string placeholders(int columns, std::size_t rows) {
  std::string sql;
  int parameter = 0;
  for (std::size_t row = 0; row < rows; ++row) {
    sql += row > 0 ? ", (" : "(";
    for (int column = 0; column < columns; ++column) sql += fmt::format("{}?{}", column > 0 ? ", " : "", ++parameter);
    sql += ")";
  }
  return sql;
}

std::string insert_requests(std::size_t rows) { return "INSERT OR IGNORE INTO requests VALUES" + placeholders(kRequestColumns, rows); }

constexpr const char* kTotals[] = {"requests", "ok",   "failed",        "refused",           "cancelled", "interrupted", "cold",
                                   "restored", "woken", "prompt_tokens", "completion_tokens", "wait_us",   "service_us",  "start_us"};

std::string upsert_daily() {
  std::string sql = "INSERT INTO daily VALUES" + placeholders(kDailyColumns, 1) + " ON CONFLICT DO UPDATE SET ";
  for (const char* column : kTotals) sql += fmt::format("{}{} = {} + excluded.{}", column == kTotals[0] ? "" : ", ", column, column, column);
  return sql;
}

std::string sum_of_totals() {
  std::string sql;
  for (const char* column : kTotals) sql += fmt::format(", sum({})", column);
  return sql;
}

std::vector<std::int64_t> columns_of(const UsageTotals& totals) {
  std::vector<std::int64_t> values;
  for (const std::uint64_t value : {totals.requests, totals.ok, totals.failed, totals.refused, totals.cancelled, totals.interrupted, totals.cold,
                                    totals.restored, totals.woken, totals.prompt_tokens, totals.completion_tokens, totals.wait_us, totals.service_us,
                                    totals.start_us})
    values.push_back(static_cast<std::int64_t>(value));
  return values;
}

UsageTotals read_totals(const Row& row, int first) {
  UsageTotals totals;
  int column = first;
  for (std::uint64_t* value : {&totals.requests, &totals.ok, &totals.failed, &totals.refused, &totals.cancelled, &totals.interrupted, &totals.cold,
                               &totals.restored, &totals.woken, &totals.prompt_tokens, &totals.completion_tokens, &totals.wait_us,
                               &totals.service_us, &totals.start_us})
    *value = row.natural(column++);
  return totals;
}

std::int64_t day_of(std::int64_t unix_ms) { return unix_ms / kDay_ms; }

std::string request_id(std::uint32_t tag, std::uint64_t seq) { return fmt::format("req_{:08x}{:010x}", tag, seq & ((1ULL << 40U) - 1)); }

base::Status explain(base::Status status, const std::string& act) {
  if (!status) return status.error().within(act);
  return status;
}

/// Names and the small numbers that stand for them in rows.
class Names {
 public:
  base::Status prepare(Database& database, const std::string& table) {
    database_ = &database;
    THAW_ASSIGN_OR_RETURN(find_, database.prepare("SELECT ref FROM " + table + " WHERE name = ?1"));
    THAW_ASSIGN_OR_RETURN(add_, database.prepare("INSERT INTO " + table + "(name) VALUES(?1)"));
    return {};
  }
  base::Result<std::int64_t> ref(const std::string& name) {
    if (const auto known = known_.find(name); known != known_.end()) return known->second;
    THAW_ASSIGN_OR_RETURN(std::int64_t ref, find(name));
    if (ref == 0) {
      THAW_RETURN_IF_ERROR(add_.run(name));
      ref = database_->last_insert_id();
    }
    if (known_.size() >= kMaxKnown) known_.clear();
    known_.emplace(name, ref);
    return ref;
  }
  base::Result<std::int64_t> find(const std::string& name) {  ///< 0: there is none
    std::int64_t ref = 0;
    THAW_RETURN_IF_ERROR(find_.each([&](const Row& row) { ref = row.integer(0); }, name));
    return ref;
  }
  void forget() { known_.clear(); }

 private:
  static constexpr std::size_t kMaxKnown = 10'000;
  Database* database_ = nullptr;
  Statement find_, add_;
  std::unordered_map<std::string, std::int64_t> known_;
};

}  // namespace

struct UsageDatabase::Impl {
  Impl(Database opened, Retention keep) : database(std::move(opened)), retention(keep) {}

  base::Status prepare() {
    THAW_RETURN_IF_ERROR(tenants.prepare(database, "tenants"));
    THAW_RETURN_IF_ERROR(models.prepare(database, "models"));
    for (const auto& [statement, sql] : std::vector<std::pair<Statement*, std::string>>{
             {&insert_one, insert_requests(1)},
             {&insert_many, insert_requests(kRowsAtOnce)},
             {&is_there, "SELECT EXISTS(SELECT 1 FROM requests WHERE seq = ?1)"},
             {&add_daily, upsert_daily()},
             {&expire_rows, "DELETE FROM requests WHERE seq IN (SELECT seq FROM requests ORDER BY seq LIMIT ?1) AND arrived_unix_ms + total_ms < ?2"},
             {&expire_daily, "DELETE FROM daily WHERE day < ?1"}}) {
      THAW_ASSIGN_OR_RETURN(*statement, database.prepare(sql));
    }
    return {};
  }

  /// All of `work` or nothing. Under the lock. Names that it added are forgotten when it fails.
  template <typename Work>
  base::Status transaction(const Work& work) {
    base::Status status = database.execute("BEGIN IMMEDIATE");
    if (status) status = work();
    if (status) status = database.execute("COMMIT");
    if (!status) {
      (void)database.execute("ROLLBACK");
      tenants.forget();
      models.forget();
    }
    return status;
  }

  base::Status append_columns(const UsageRow& row) {
    THAW_ASSIGN_OR_RETURN(const std::int64_t tenant, tenants.ref(row.tenant));
    THAW_ASSIGN_OR_RETURN(const std::int64_t model, models.ref(row.model));
    for (const std::uint64_t value :
         {row.seq, static_cast<std::uint64_t>(row.arrived_unix_ms), static_cast<std::uint64_t>(row.ended_unix_ms - row.arrived_unix_ms),
          static_cast<std::uint64_t>(tenant), row.key.value(), static_cast<std::uint64_t>(model), static_cast<std::uint64_t>(row.outcome),
          static_cast<std::uint64_t>(row.way), std::uint64_t{row.dispatched}, std::uint64_t{row.status}, std::uint64_t{row.prompt_tokens},
          std::uint64_t{row.completion_tokens}, row.wait_us, row.service_us, row.start_us})
      values.push_back(static_cast<std::int64_t>(value));
    return {};
  }

  base::Status insert(std::span<const UsageRow> rows) {
    for (std::size_t at = 0; at < rows.size();) {
      const std::size_t count = rows.size() - at >= kRowsAtOnce ? kRowsAtOnce : 1;
      values.clear();
      for (const UsageRow& row : rows.subspan(at, count)) THAW_RETURN_IF_ERROR(append_columns(row));
      THAW_RETURN_IF_ERROR((count == 1 ? insert_one : insert_many).run_list(values));
      at += count;
    }
    return {};
  }

  base::Status add_to_days(std::span<const UsageRow> rows) {
    std::map<std::tuple<std::int64_t, std::int64_t, std::uint64_t, std::int64_t>, UsageTotals> cells;
    for (const UsageRow& row : rows) {
      THAW_ASSIGN_OR_RETURN(const std::int64_t tenant, tenants.ref(row.tenant));
      THAW_ASSIGN_OR_RETURN(const std::int64_t model, models.ref(row.model));
      cells[{day_of(row.ended_unix_ms), tenant, row.key.value(), model}].add(row);
    }
    for (const auto& [cell, totals] : cells) {
      values = {std::get<0>(cell), std::get<1>(cell), static_cast<std::int64_t>(std::get<2>(cell)), std::get<3>(cell)};
      const auto sums = columns_of(totals);
      values.insert(values.end(), sums.begin(), sums.end());
      THAW_RETURN_IF_ERROR(add_daily.run_list(values));
    }
    return {};
  }

  base::Result<std::vector<UsageRow>> not_there_yet(std::span<const UsageRow> rows) {
    std::vector<UsageRow> fresh;
    for (const UsageRow& row : rows) {
      bool there = false;
      THAW_RETURN_IF_ERROR(is_there.each([&](const Row& found) { there = found.integer(0) != 0; }, row.seq));
      if (!there) fresh.push_back(row);
    }
    return fresh;
  }

  std::mutex mutex;  ///< held for every use of the members below
  Database database;
  const Retention retention;
  Names tenants, models;
  Statement insert_one, insert_many, is_there, add_daily, expire_rows, expire_daily;
  std::vector<std::int64_t> values;  ///< of one statement; keeps its memory
  bool first_group = true;           ///< may have been stored by the process before, just before it died
};

base::Result<std::unique_ptr<UsageDatabase>> UsageDatabase::open(const std::string& path, const std::string& former_store, Retention retention) {
  constexpr mode_t kOwnerOnly = 0600;
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, kOwnerOnly);  // SQLite gives -wal and -shm its mode
  if (fd < 0 && errno != EEXIST) return base::errno_error("cannot create " + path, errno);
  if (fd >= 0) ::close(fd);
  THAW_ASSIGN_OR_RETURN(Database database, Database::open(path, Database::Access::read_write));
  THAW_RETURN_IF_ERROR(prepare_usage_schema(database));
  if (!former_store.empty()) THAW_RETURN_IF_ERROR(explain(take_former_usage(database, former_store), "cannot take over the usage in " + former_store));
  auto impl = std::make_unique<Impl>(std::move(database), retention);
  THAW_RETURN_IF_ERROR(impl->prepare());
  return std::unique_ptr<UsageDatabase>(new UsageDatabase(std::move(impl)));
}

UsageDatabase::UsageDatabase(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
UsageDatabase::~UsageDatabase() = default;

base::Result<std::uint64_t> UsageDatabase::begin_start(std::uint32_t process_tag, std::int64_t now_unix_ms) {
  const std::lock_guard lock(impl_->mutex);
  THAW_ASSIGN_OR_RETURN(Statement statement, impl_->database.prepare("INSERT INTO starts(tag, unix_ms) VALUES(?1, ?2)"));
  THAW_RETURN_IF_ERROR(explain(statement.run(process_tag, now_unix_ms), "cannot count this start"));
  return static_cast<std::uint64_t>(impl_->database.last_insert_id());
}

base::Status UsageDatabase::append(std::span<const UsageRow> rows) {
  if (rows.empty()) return {};
  const std::lock_guard lock(impl_->mutex);
  std::vector<UsageRow> fresh;
  if (impl_->first_group) {
    THAW_ASSIGN_OR_RETURN(fresh, impl_->not_there_yet(rows));
    rows = fresh;
  }
  const base::Status status = impl_->transaction([&]() -> base::Status {
    THAW_RETURN_IF_ERROR(impl_->insert(rows));
    return impl_->add_to_days(rows);
  });
  // After a failure nobody knows what is there, as after a start.
  impl_->first_group = !status;
  return explain(status, "cannot store usage");
}

base::Status UsageDatabase::tidy(std::int64_t now_unix_ms) {
  const std::int64_t oldest_ms = now_unix_ms - static_cast<std::int64_t>(impl_->retention.rows_days) * kDay_ms;
  const std::int64_t oldest_day = day_of(now_unix_ms) - static_cast<std::int64_t>(impl_->retention.daily_days);
  constexpr int kMaxRounds = 10'000;  // the rest an hour later
  for (int round = 0; round < kMaxRounds; ++round) {
    const std::lock_guard lock(impl_->mutex);
    THAW_RETURN_IF_ERROR(explain(impl_->expire_rows.run(kRowsPerTidy, oldest_ms), "cannot remove old usage"));
    THAW_ASSIGN_OR_RETURN(const std::int64_t removed, impl_->database.integer("SELECT changes()"));
    if (removed < kRowsPerTidy) break;
  }
  const std::lock_guard lock(impl_->mutex);
  return explain(impl_->expire_daily.run(oldest_day), "cannot remove old daily usage");
}

base::Result<std::vector<UsageSum>> UsageDatabase::sums(UsageBy by, const UsageFilter& filter) const {
  const char* const group = by == UsageBy::tenant ? "t.name" : by == UsageBy::day ? "day" : by == UsageBy::key ? "key" : "m.name";
  // On a connection of its own: WAL lets the writer go on meanwhile.
  THAW_ASSIGN_OR_RETURN(Database reader, Database::open(impl_->database.path(), Database::Access::read_only));
  THAW_ASSIGN_OR_RETURN(Statement statement,
                        reader.prepare(fmt::format("SELECT {0}, m.name{1} FROM daily JOIN tenants t ON t.ref = tenant JOIN models m ON m.ref = model "
                                                   "WHERE day BETWEEN ?1 AND ?2 AND (?4 = '' OR t.name = ?4) GROUP BY {0}, m.name ORDER BY {0}, m.name LIMIT ?3",
                                                   group, sum_of_totals())));
  std::vector<UsageSum> sums;
  const auto read = [&](const Row& row) {
    std::string name = row.bytes(0);
    if (by == UsageBy::day) name = format_day(row.integer(0));
    if (by == UsageBy::key) name = row.integer(0) == 0 ? "dev" : "key:" + name;
    sums.push_back({std::move(name), row.bytes(1), read_totals(row, 2)});
  };
  THAW_RETURN_IF_ERROR(explain(statement.each(read, filter.first_day, filter.last_day, kMaxSums + 1, filter.tenant), "cannot sum the usage up"));
  if (sums.size() > kMaxSums)
    return base::Error{base::ErrorKind::exhausted, fmt::format("these are more than {} sums; ask for less time with since and until", kMaxSums)};
  return sums;
}

base::Result<std::vector<UsageDatabase::Listed>> UsageDatabase::rows(const UsageFilter& filter, std::uint64_t after, std::size_t limit) const {
  THAW_ASSIGN_OR_RETURN(Database reader, Database::open(impl_->database.path(), Database::Access::read_only));
  THAW_ASSIGN_OR_RETURN(
      Statement statement,
      reader.prepare("SELECT seq, arrived_unix_ms, total_ms, t.name, key, m.name, outcome, way, dispatched, status, prompt_tokens, completion_tokens, "
                     "wait_us, service_us, start_us, coalesce(tag, -1) FROM requests JOIN tenants t ON t.ref = tenant JOIN models m ON m.ref = model "
                     "LEFT JOIN starts ON start = seq >> 40 WHERE seq > ?1 AND arrived_unix_ms BETWEEN ?2 AND ?3 AND (?5 = '' OR t.name = ?5) ORDER BY seq LIMIT ?4"));
  std::vector<Listed> listed;
  const auto read = [&](const Row& row) {
    UsageRow one;
    one.seq = row.natural(0);
    one.arrived_unix_ms = row.integer(1);
    one.ended_unix_ms = one.arrived_unix_ms + row.integer(2);
    one.tenant = row.bytes(3);
    one.key = base::KeyId(row.natural(4));
    one.model = row.bytes(5);
    one.outcome = static_cast<UsageOutcome>(row.integer(6) % kUsageOutcomes);
    one.way = static_cast<UsageWay>(row.integer(7) % kUsageWays);
    one.dispatched = row.integer(8) != 0;
    one.status = static_cast<std::uint16_t>(row.integer(9));
    one.prompt_tokens = static_cast<std::uint32_t>(row.integer(10));
    one.completion_tokens = static_cast<std::uint32_t>(row.integer(11));
    one.wait_us = row.natural(12);
    one.service_us = row.natural(13);
    one.start_us = row.natural(14);
    const std::int64_t tag = row.integer(15);
    listed.push_back({std::move(one), tag < 0 ? "" : request_id(static_cast<std::uint32_t>(tag), row.natural(0))});
  };
  constexpr std::int64_t kMaxDay = 1LL << 30;  // so that its milliseconds are no overflow
  THAW_RETURN_IF_ERROR(explain(statement.each(read, after, std::min(filter.first_day, kMaxDay) * kDay_ms,
                                              (std::min(filter.last_day, kMaxDay) + 1) * kDay_ms - 1,
                                              std::clamp<std::size_t>(limit, 1, kMaxListed), filter.tenant),
                               "cannot list the usage"));
  return listed;
}

base::Result<UsageDatabase::Erased> UsageDatabase::erase_tenant(const std::string& tenant) {
  std::uint64_t random = 0;
  if (getrandom(&random, sizeof random, 0) != sizeof random) return base::errno_error("cannot get random bytes", errno);
  const std::lock_guard lock(impl_->mutex);
  Erased erased;
  const base::Status status = impl_->transaction([&]() -> base::Status {
    THAW_ASSIGN_OR_RETURN(const std::int64_t ref, impl_->tenants.find(tenant));
    if (ref == 0) return {};
    Database& database = impl_->database;
    THAW_RETURN_IF_ERROR(database.execute(fmt::format("DELETE FROM requests WHERE tenant = {}", ref)));
    THAW_ASSIGN_OR_RETURN(const std::int64_t rows, database.integer("SELECT changes()"));
    erased.rows = static_cast<std::uint64_t>(rows);
    // One sum a day and model: by key they would still tell the keys' owners apart.
    std::string sql = fmt::format("CREATE TEMP TABLE merged AS SELECT day, tenant, 0, model{} FROM daily WHERE tenant = {} GROUP BY day, model;", sum_of_totals(), ref);
    sql += fmt::format("DELETE FROM daily WHERE tenant = {}; INSERT INTO daily SELECT * FROM merged; DROP TABLE merged;", ref);
    THAW_RETURN_IF_ERROR(database.execute(sql));
    THAW_ASSIGN_OR_RETURN(const std::int64_t days, database.integer(fmt::format("SELECT count(*) FROM daily WHERE tenant = {}", ref)));
    erased.days = static_cast<std::uint64_t>(days);
    if (days == 0) return database.execute(fmt::format("DELETE FROM tenants WHERE ref = {}", ref));
    erased.stands_as = fmt::format("erased-{:016x}", random);
    return database.execute(fmt::format("UPDATE tenants SET name = '{}' WHERE ref = {}", erased.stands_as, ref));
  });
  impl_->tenants.forget();
  THAW_RETURN_IF_ERROR(explain(status, "cannot erase the usage of tenant " + tenant));
  // The write-ahead log still has the old pages.
  THAW_RETURN_IF_ERROR(explain(impl_->database.execute("PRAGMA wal_checkpoint(TRUNCATE)"), "cannot erase the usage of tenant " + tenant));
  return erased;
}

}  // namespace thaw::store
