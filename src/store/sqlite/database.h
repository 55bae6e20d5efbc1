#pragma once

#include <concepts>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include <sqlite3.h>

#include "base/result.h"

/// SQLite's C API with owners and errors as values. Nothing here knows a table. Not thread-safe: whoever holds one
/// locks.
namespace thaw::store {

/// Bytes bound as a BLOB, where a std::string_view is bound as TEXT.
struct Blob {
  std::string_view bytes;
};

/// The columns of the row a statement stands on, from 0; valid during one callback.
class Row {
 public:
  explicit Row(sqlite3_stmt* statement) : statement_(statement) {}
  [[nodiscard]] std::int64_t integer(int column) const { return sqlite3_column_int64(statement_, column); }
  [[nodiscard]] std::uint64_t natural(int column) const { return static_cast<std::uint64_t>(integer(column)); }
  [[nodiscard]] std::string bytes(int column) const;  ///< TEXT or BLOB

 private:
  sqlite3_stmt* statement_;
};

/// One prepared SQL statement, to be run many times. Must not outlive its database.
class Statement {
 public:
  Statement() = default;
  explicit Statement(sqlite3_stmt* statement) : statement_(statement) {}

  /// Binds the values to ?1, ?2, ... and runs to the end.
  template <typename... Values>
  base::Status run(const Values&... values) {
    return each([](const Row&) {}, values...);
  }

  /// The same with a list of integers, for statements of many rows.
  base::Status run_list(std::span<const std::int64_t> values);

  /// The same, with `on_row(const Row&)` for every row.
  template <typename OnRow, typename... Values>
  base::Status each(OnRow&& on_row, const Values&... values) {
    int index = 0;
    int code = SQLITE_OK;
    ((code = code == SQLITE_OK ? bind(++index, values) : code), ...);
    while (code == SQLITE_OK || code == SQLITE_ROW) {
      code = sqlite3_step(statement_.get());
      if (code == SQLITE_ROW) on_row(Row(statement_.get()));
    }
    return finish(code);
  }

 private:
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
  };

  template <std::integral Integer>
  int bind(int index, Integer value) {
    return sqlite3_bind_int64(statement_.get(), index, static_cast<std::int64_t>(value));
  }
  // The text outlives the run: no copy is made.
  int bind(int index, std::string_view text) {
    return sqlite3_bind_text64(statement_.get(), index, text.data(), text.size(), SQLITE_STATIC, SQLITE_UTF8);
  }
  int bind(int index, Blob blob) {
    return sqlite3_bind_blob64(statement_.get(), index, blob.bytes.data(), blob.bytes.size(), SQLITE_STATIC);
  }
  base::Status finish(int code);

  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
};

/// A connection to a database file that exists.
class Database {
 public:
  enum class Access { read_only, read_write };
  static base::Result<Database> open(const std::string& path, Access access);

  base::Result<Statement> prepare(std::string_view sql);
  base::Status execute(const std::string& sql);              ///< any number of statements
  base::Result<std::int64_t> integer(std::string_view sql);  ///< the first column of the first row
  [[nodiscard]] std::int64_t last_insert_id() const { return sqlite3_last_insert_rowid(connection_.get()); }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  struct Close {
    void operator()(sqlite3* connection) const { sqlite3_close_v2(connection); }
  };
  Database(std::string path, sqlite3* connection) : path_(std::move(path)), connection_(connection) {}

  std::string path_;
  std::unique_ptr<sqlite3, Close> connection_;
};

/// What to say of a database that is damaged, with the remedy. `detail`: what SQLite found.
base::Error corrupt_error(const std::string& path, std::string_view detail);

}  // namespace thaw::store
