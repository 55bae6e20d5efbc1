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

#include "store/sqlite/usage_packs.h"
#include "store/sqlite/usage_schema.h"

namespace thaw::store {
namespace {

constexpr int kDailyColumns = 18;
constexpr std::int64_t kPacksPerTidy = 1'000;  // removed in one transaction: others wait for it
constexpr int kMaxGroupPacks = 8;  // of one append: the journal gives as many rows as one pack has, others are no more
constexpr std::int64_t kPacksAtOnce = 8;  // read at once, for a page of rows or to erase

std::string placeholders(int columns) {
  std::string sql = "(";
  for (int column = 1; column <= columns; ++column) sql += fmt::format("{}?{}", column > 1 ? ", " : "", column);
  return sql + ")";
}

constexpr const char* kTotals[] = {"requests",          "ok",      "failed",     "refused", "cancelled",
                                   "interrupted",       "cold",    "restored",   "woken",   "prompt_tokens",
                                   "completion_tokens", "wait_us", "service_us", "start_us"};

std::string upsert_daily() {
  std::string sql = "INSERT INTO daily VALUES" + placeholders(kDailyColumns) + " ON CONFLICT DO UPDATE SET ";
  for (const char* column : kTotals)
    sql += fmt::format("{}{} = {} + excluded.{}", column == kTotals[0] ? "" : ", ", column, column, column);
  return sql;
}

std::string sum_of_totals() {
  std::string sql;
  for (const char* column : kTotals) sql += fmt::format(", sum({})", column);
  return sql;
}

std::vector<std::int64_t> columns_of(const UsageTotals& totals) {
  std::vector<std::int64_t> values;
  for (const std::uint64_t value :
       {totals.requests, totals.ok, totals.failed, totals.refused, totals.cancelled, totals.interrupted, totals.cold,
        totals.restored, totals.woken, totals.prompt_tokens, totals.completion_tokens, totals.wait_us,
        totals.service_us, totals.start_us})
    values.push_back(static_cast<std::int64_t>(value));
  return values;
}

UsageTotals read_totals(const Row& row, int first) {
  UsageTotals totals;
  int column = first;
  for (std::uint64_t* value :
       {&totals.requests, &totals.ok, &totals.failed, &totals.refused, &totals.cancelled, &totals.interrupted,
        &totals.cold, &totals.restored, &totals.woken, &totals.prompt_tokens, &totals.completion_tokens,
        &totals.wait_us, &totals.service_us, &totals.start_us})
    *value = row.natural(column++);
  return totals;
}

std::int64_t day_of(std::int64_t unix_ms) {
  return unix_ms / kDay_ms;
}

std::string request_id(std::uint32_t tag, std::uint64_t seq) {
  return fmt::format("req_{:08x}{:010x}", tag, seq & ((1ULL << 40U) - 1));
}

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

/// Names by their numbers.
base::Result<std::unordered_map<std::uint64_t, std::string>> names_of(Database& database, const char* table) {
  std::unordered_map<std::uint64_t, std::string> names;
  THAW_ASSIGN_OR_RETURN(Statement statement, database.prepare(fmt::format("SELECT ref, name FROM {}", table)));
  THAW_RETURN_IF_ERROR(statement.each([&](const Row& row) { names.emplace(row.natural(0), row.bytes(1)); }));
  return names;
}

UsageRow unpacked(const PackedRow& packed, const std::string& tenant, const std::string& model) {
  UsageRow row;
  row.seq = packed.seq;
  row.arrived_unix_ms = packed.arrived_unix_ms;
  row.ended_unix_ms = packed.arrived_unix_ms + packed.total_ms;
  row.dispatched = packed.dispatched;
  row.key = base::KeyId(packed.key);
  row.tenant = tenant;
  row.model = model;
  row.outcome = static_cast<UsageOutcome>(packed.outcome);
  row.way = static_cast<UsageWay>(packed.way);
  row.status = packed.status;
  row.prompt_tokens = packed.prompt_tokens;
  row.completion_tokens = packed.completion_tokens;
  row.wait_us = packed.wait_us;
  row.service_us = packed.service_us;
  row.start_us = packed.start_us;
  return row;
}

base::Status list_rows(Database& reader, const UsageFilter& filter, std::uint64_t after, std::size_t limit,
                       std::vector<UsageDatabase::Listed>& listed) {
  THAW_ASSIGN_OR_RETURN(const auto tenants, names_of(reader, "tenants"));
  THAW_ASSIGN_OR_RETURN(const auto models, names_of(reader, "models"));
  std::unordered_map<std::uint64_t, std::uint32_t> tags;
  THAW_ASSIGN_OR_RETURN(Statement starts, reader.prepare("SELECT start, tag FROM starts"));
  THAW_RETURN_IF_ERROR(
      starts.each([&](const Row& row) { tags.emplace(row.natural(0), static_cast<std::uint32_t>(row.integer(1))); }));
  constexpr std::int64_t kMaxDay = 1LL << 30;  // so that its milliseconds are no overflow
  const std::int64_t first_ms = std::min(filter.first_day, kMaxDay) * kDay_ms;
  const std::int64_t last_ms = (std::min(filter.last_day, kMaxDay) + 1) * kDay_ms - 1;
  THAW_ASSIGN_OR_RETURN(
      Statement packs,
      reader.prepare(
          "SELECT pack, rows FROM packs WHERE pack >= ?1 AND last_arrived_ms >= ?2 AND first_arrived_ms <= ?3 "
          "ORDER BY pack LIMIT ?4"));
  static const std::string kNobody;
  const auto name = [](const auto& names, std::uint64_t ref) -> const std::string& {
    const auto found = names.find(ref);
    return found == names.end() ? kNobody : found->second;
  };
  std::uint64_t from = after >> kPackRowBits;
  for (std::int64_t count = kPacksAtOnce; count == kPacksAtOnce && listed.size() < limit;) {
    count = 0;
    base::Status readable;
    const auto read = [&](const Row& row) {
      ++count;
      const std::uint64_t pack = row.natural(0);
      from = pack + 1;
      std::uint64_t at = pack_position(pack, 0);
      const base::Status whole = unpack_rows(row.bytes(1), [&](const PackedRow& one) {
        const std::uint64_t position = at++;
        if (position <= after || one.tenant == 0 || listed.size() >= limit || one.arrived_unix_ms < first_ms ||
            one.arrived_unix_ms > last_ms)
          return;
        const std::string& tenant = name(tenants, one.tenant);
        if (!filter.tenant.empty() && tenant != filter.tenant) return;
        const auto tag = tags.find(one.seq >> 40U);
        listed.push_back({unpacked(one, tenant, name(models, one.model)),
                          tag == tags.end() ? "" : request_id(tag->second, one.seq), position});
      });
      if (!whole) readable = whole;
    };
    THAW_RETURN_IF_ERROR(packs.each(read, from, first_ms, last_ms, kPacksAtOnce));
    THAW_RETURN_IF_ERROR(readable);
  }
  return {};
}

}  // namespace

struct UsageDatabase::Impl {
  Impl(Database opened, Retention keep) : database(std::move(opened)), retention(keep) {}

  base::Status prepare() {
    THAW_RETURN_IF_ERROR(tenants.prepare(database, "tenants"));
    THAW_RETURN_IF_ERROR(models.prepare(database, "models"));
    for (const auto& [statement, sql] : std::vector<std::pair<Statement*, std::string>>{
             {&add_daily, upsert_daily()},
             {&expire_packs,
              "DELETE FROM packs WHERE pack IN (SELECT pack FROM packs ORDER BY pack LIMIT ?1) AND last_ended_ms < ?2"},
             {&expire_daily, "DELETE FROM daily WHERE day < ?1"}}) {
      THAW_ASSIGN_OR_RETURN(*statement, database.prepare(sql));
    }
    THAW_ASSIGN_OR_RETURN(writer, PackWriter::prepare(database));
    return doubt_last_group();
  }

  /// The last group may have been stored without its giver's knowing: the process before died just then, or the commit
  /// said that it failed.
  base::Status doubt_last_group() {
    doubtful.clear();
    base::Status readable;
    THAW_ASSIGN_OR_RETURN(Statement last, database.prepare(fmt::format(
                                              "SELECT rows FROM packs ORDER BY pack DESC LIMIT {}", kMaxGroupPacks)));
    THAW_RETURN_IF_ERROR(last.each([&](const Row& row) {
      if (readable) readable = unpack_rows(row.bytes(0), [&](const PackedRow& one) { doubtful.push_back(one.seq); });
    }));
    THAW_RETURN_IF_ERROR(readable);
    std::sort(doubtful.begin(), doubtful.end());
    return {};
  }
  [[nodiscard]] bool is_there(std::uint64_t seq) const {
    return !doubtful.empty() && seq <= doubtful.back() && std::binary_search(doubtful.begin(), doubtful.end(), seq);
  }

  /// All of `work` or nothing. Under the lock. Names that it added are forgotten when it fails.
  template <typename Work>
  base::Status transaction(const Work& work) {
    base::Status status = database.execute("BEGIN IMMEDIATE");
    if (status) status = work();
    if (status) status = database.execute("COMMIT");
    if (!status) {
      (void)database.execute("ROLLBACK");
      forget_names();
      writer.discard();
    }
    return status;
  }

  /// Numbers of a row's names; those of the row before are remembered, since they are mostly the same.
  base::Status refer(const UsageRow& row) {
    if (row.tenant != last_tenant || tenant_ref == 0) {
      THAW_ASSIGN_OR_RETURN(tenant_ref, tenants.ref(row.tenant));
      last_tenant = row.tenant;
    }
    if (row.model != last_model || model_ref == 0) {
      THAW_ASSIGN_OR_RETURN(model_ref, models.ref(row.model));
      last_model = row.model;
    }
    return {};
  }
  void forget_names() {
    tenants.forget();
    models.forget();
    tenant_ref = model_ref = 0;
  }

  using Cell = std::tuple<std::int64_t, std::int64_t, std::uint64_t, std::int64_t>;  ///< day, tenant, key, model

  base::Status store(std::span<const UsageRow> rows) {
    std::map<Cell, UsageTotals> cells;
    auto cell = cells.end();
    for (const UsageRow& row : rows) {
      if (is_there(row.seq)) continue;
      THAW_RETURN_IF_ERROR(refer(row));
      PackedRow packed;
      packed.seq = row.seq;
      packed.arrived_unix_ms = row.arrived_unix_ms;
      packed.total_ms = row.ended_unix_ms - row.arrived_unix_ms;
      packed.tenant = static_cast<std::uint64_t>(tenant_ref);
      packed.key = row.key.value();
      packed.model = static_cast<std::uint64_t>(model_ref);
      packed.outcome = static_cast<std::uint8_t>(row.outcome);
      packed.way = static_cast<std::uint8_t>(row.way);
      packed.dispatched = row.dispatched;
      packed.status = row.status;
      packed.prompt_tokens = row.prompt_tokens;
      packed.completion_tokens = row.completion_tokens;
      packed.wait_us = row.wait_us;
      packed.service_us = row.service_us;
      packed.start_us = row.start_us;
      THAW_RETURN_IF_ERROR(writer.add(packed));
      const Cell key{day_of(row.ended_unix_ms), tenant_ref, row.key.value(), model_ref};
      if (cell == cells.end() || cell->first != key) cell = cells.try_emplace(key).first;
      cell->second.add(row);
    }
    THAW_RETURN_IF_ERROR(writer.finish());
    return add_to_days(cells);
  }

  base::Status add_to_days(const std::map<Cell, UsageTotals>& cells) {
    for (const auto& [cell, totals] : cells) {
      std::vector<std::int64_t> values{std::get<0>(cell), std::get<1>(cell),
                                       static_cast<std::int64_t>(std::get<2>(cell)), std::get<3>(cell)};
      const auto sums = columns_of(totals);
      values.insert(values.end(), sums.begin(), sums.end());
      THAW_RETURN_IF_ERROR(add_daily.run_list(values));
    }
    return {};
  }

  /// Empties the places of a tenant's rows in all packs: what lies behind them stays where it is, for whoever is
  /// reading page after page. In a transaction.
  base::Status empty_places(std::uint64_t tenant, std::uint64_t& emptied) {
    THAW_ASSIGN_OR_RETURN(Statement read,
                          database.prepare("SELECT pack, rows FROM packs WHERE pack > ?1 ORDER BY pack LIMIT ?2"));
    THAW_ASSIGN_OR_RETURN(Statement write, database.prepare("UPDATE packs SET rows = ?2 WHERE pack = ?1"));
    std::int64_t last = 0;
    for (bool more = true; more;) {
      std::vector<std::pair<std::int64_t, std::string>> changed;
      std::int64_t count = 0;
      base::Status readable;
      THAW_RETURN_IF_ERROR(read.each(
          [&](const Row& row) {
            ++count;
            last = row.integer(0);
            RowPacker rest;
            std::uint64_t gone = 0;
            const base::Status unpacked = unpack_rows(row.bytes(1), [&](const PackedRow& one) {
              const bool theirs = one.tenant == tenant;
              gone += theirs ? 1 : 0;
              rest.add(theirs ? PackedRow{} : one);
            });
            if (!unpacked) readable = unpacked;
            emptied += gone;
            if (gone > 0) changed.emplace_back(last, rest.bytes());
          },
          last, kPacksAtOnce));
      THAW_RETURN_IF_ERROR(readable);
      for (const auto& [pack, bytes] : changed) THAW_RETURN_IF_ERROR(write.run(pack, Blob{bytes}));
      more = count == kPacksAtOnce;
    }
    return {};
  }

  std::mutex mutex;  ///< held for every use of the members below
  Database database;
  const Retention retention;
  Names tenants, models;
  Statement add_daily, expire_packs, expire_daily;
  PackWriter writer;
  std::vector<std::uint64_t> doubtful;  ///< numbers of rows that are there and may be given again; sorted
  bool in_doubt = false;                ///< the last group failed: nobody knows whether it is there
  std::string last_tenant, last_model;
  std::int64_t tenant_ref = 0, model_ref = 0;  ///< of these; 0: of none
};

base::Result<std::unique_ptr<UsageDatabase>> UsageDatabase::open(const std::string& path,
                                                                 const std::string& former_store, Retention retention) {
  constexpr mode_t kOwnerOnly = 0600;
  const int fd =
      ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, kOwnerOnly);  // SQLite gives -wal and -shm its mode
  if (fd < 0 && errno != EEXIST) return base::errno_error("cannot create " + path, errno);
  if (fd >= 0) ::close(fd);
  THAW_ASSIGN_OR_RETURN(Database database, Database::open(path, Database::Access::read_write));
  THAW_RETURN_IF_ERROR(prepare_usage_schema(database));
  if (!former_store.empty())
    THAW_RETURN_IF_ERROR(
        explain(take_former_usage(database, former_store), "cannot take over the usage in " + former_store));
  auto impl = std::make_unique<Impl>(std::move(database), retention);
  THAW_RETURN_IF_ERROR(impl->prepare());
  return std::unique_ptr<UsageDatabase>(new UsageDatabase(std::move(impl)));
}

UsageDatabase::UsageDatabase(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
UsageDatabase::~UsageDatabase() = default;

base::Result<std::uint64_t> UsageDatabase::begin_start(std::uint32_t process_tag, std::int64_t now_unix_ms) {
  const std::lock_guard lock(impl_->mutex);
  THAW_ASSIGN_OR_RETURN(Statement statement,
                        impl_->database.prepare("INSERT INTO starts(tag, unix_ms) VALUES(?1, ?2)"));
  THAW_RETURN_IF_ERROR(explain(statement.run(process_tag, now_unix_ms), "cannot count this start"));
  return static_cast<std::uint64_t>(impl_->database.last_insert_id());
}

base::Status UsageDatabase::append(std::span<const UsageRow> rows) {
  if (rows.empty()) return {};
  const std::lock_guard lock(impl_->mutex);
  if (impl_->in_doubt) THAW_RETURN_IF_ERROR(explain(impl_->doubt_last_group(), "cannot store usage"));
  const base::Status status = impl_->transaction([&] { return impl_->store(rows); });
  impl_->in_doubt = !status;
  return explain(status, "cannot store usage");
}

base::Status UsageDatabase::tidy(std::int64_t now_unix_ms) {
  const std::int64_t oldest_ms = now_unix_ms - static_cast<std::int64_t>(impl_->retention.rows_days) * kDay_ms;
  const std::int64_t oldest_day = day_of(now_unix_ms) - static_cast<std::int64_t>(impl_->retention.daily_days);
  constexpr int kMaxRounds = 10'000;  // the rest an hour later
  for (int round = 0; round < kMaxRounds; ++round) {
    const std::lock_guard lock(impl_->mutex);
    THAW_RETURN_IF_ERROR(explain(impl_->expire_packs.run(kPacksPerTidy, oldest_ms), "cannot remove old usage"));
    THAW_ASSIGN_OR_RETURN(const std::int64_t removed, impl_->database.integer("SELECT changes()"));
    if (removed < kPacksPerTidy) break;
  }
  const std::lock_guard lock(impl_->mutex);
  return explain(impl_->expire_daily.run(oldest_day), "cannot remove old daily usage");
}

base::Result<std::vector<UsageSum>> UsageDatabase::sums(UsageBy by, const UsageFilter& filter) const {
  const char* const group = by == UsageBy::tenant ? "t.name"
                            : by == UsageBy::day  ? "day"
                            : by == UsageBy::key  ? "key"
                                                  : "m.name";
  // On a connection of its own: WAL lets the writer go on meanwhile.
  THAW_ASSIGN_OR_RETURN(Database reader, Database::open(impl_->database.path(), Database::Access::read_only));
  THAW_ASSIGN_OR_RETURN(
      Statement statement,
      reader.prepare(fmt::format(
          "SELECT {0}, m.name{1} FROM daily JOIN tenants t ON t.ref = tenant JOIN models m ON m.ref = model "
          "WHERE day BETWEEN ?1 AND ?2 AND (?4 = '' OR t.name = ?4) GROUP BY {0}, m.name ORDER BY {0}, m.name LIMIT ?3",
          group, sum_of_totals())));
  std::vector<UsageSum> sums;
  const auto read = [&](const Row& row) {
    std::string name = row.bytes(0);
    if (by == UsageBy::day) name = format_day(row.integer(0));
    if (by == UsageBy::key) name = row.integer(0) == 0 ? "dev" : "key:" + name;
    sums.push_back({std::move(name), row.bytes(1), read_totals(row, 2)});
  };
  THAW_RETURN_IF_ERROR(explain(statement.each(read, filter.first_day, filter.last_day, kMaxSums + 1, filter.tenant),
                               "cannot sum the usage up"));
  if (sums.size() > kMaxSums)
    return base::Error{base::ErrorKind::exhausted,
                       fmt::format("these are more than {} sums; ask for less time with since and until", kMaxSums)};
  return sums;
}

base::Result<std::vector<UsageDatabase::Listed>> UsageDatabase::rows(const UsageFilter& filter, std::uint64_t after,
                                                                     std::size_t limit) const {
  THAW_ASSIGN_OR_RETURN(Database reader, Database::open(impl_->database.path(), Database::Access::read_only));
  THAW_RETURN_IF_ERROR(reader.execute("BEGIN"));  // the names are of the same moment as the rows
  std::vector<Listed> listed;
  const base::Status status = list_rows(reader, filter, after, std::clamp<std::size_t>(limit, 1, kMaxListed), listed);
  if (!status) return status.error().within("cannot list the usage");
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
    THAW_RETURN_IF_ERROR(impl_->empty_places(static_cast<std::uint64_t>(ref), erased.rows));
    // One sum a day and model: by key they would still tell the keys' owners apart.
    std::string sql = fmt::format(
        "CREATE TEMP TABLE merged AS SELECT day, tenant, 0, model{} FROM daily WHERE tenant = {} GROUP BY day, model;",
        sum_of_totals(), ref);
    sql += fmt::format(
        "DELETE FROM daily WHERE tenant = {}; INSERT INTO daily SELECT * FROM merged; DROP TABLE merged;", ref);
    THAW_RETURN_IF_ERROR(database.execute(sql));
    THAW_ASSIGN_OR_RETURN(const std::int64_t days,
                          database.integer(fmt::format("SELECT count(*) FROM daily WHERE tenant = {}", ref)));
    erased.days = static_cast<std::uint64_t>(days);
    if (days == 0) return database.execute(fmt::format("DELETE FROM tenants WHERE ref = {}", ref));
    erased.stands_as = fmt::format("erased-{:016x}", random);
    return database.execute(fmt::format("UPDATE tenants SET name = '{}' WHERE ref = {}", erased.stands_as, ref));
  });
  impl_->forget_names();
  THAW_RETURN_IF_ERROR(explain(status, "cannot erase the usage of tenant " + tenant));
  // The write-ahead log still has the old pages.
  THAW_RETURN_IF_ERROR(explain(impl_->database.execute("PRAGMA wal_checkpoint(TRUNCATE)"),
                               "cannot erase the usage of tenant " + tenant));
  return erased;
}

}  // namespace thaw::store
