#include "store/sqlite/database.h"

namespace thaw::store {
namespace {

constexpr int kBusyTimeout_ms = 5'000;  // another process (sqlite3, a backup) may hold the file for a moment

base::Error error_of(sqlite3* connection) {
  const char* name = sqlite3_db_filename(connection, "main");
  const std::string path = name == nullptr ? "" : name;
  const std::string message = sqlite3_errmsg(connection);
  switch (sqlite3_errcode(connection) & 0xff) {  // the low byte of an extended code is its family
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return corrupt_error(path, message);
    case SQLITE_FULL:
      return {base::ErrorKind::exhausted, path + ": " + message + "; free some space on its disk"};
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return {base::ErrorKind::unavailable, path + ": " + message + "; another process holds it, end that one"};
    case SQLITE_READONLY:
      return {base::ErrorKind::io, path + ": " + message + "; make the file and its directory writable"};
    default:
      return {base::ErrorKind::io, path + ": " + message};
  }
}

}  // namespace

base::Error corrupt_error(const std::string& path, std::string_view detail) {
  return {base::ErrorKind::io,
          path + ": the database is damaged (" + std::string(detail) +
              "); stop thaw, move this file and those beside it that end in -wal and -shm away, then restore a "
              "backup or save what is left with: sqlite3 MOVED .recover | sqlite3 " +
              path};
}

std::string Row::bytes(int column) const {
  const void* data = sqlite3_column_blob(statement_, column);
  const auto size = static_cast<std::size_t>(sqlite3_column_bytes(statement_, column));
  return data == nullptr ? std::string() : std::string(static_cast<const char*>(data), size);
}

base::Status Statement::run_list(std::span<const std::int64_t> values) {
  int index = 0;
  int code = SQLITE_OK;
  for (const std::int64_t value : values) {
    if (code == SQLITE_OK) code = sqlite3_bind_int64(statement_.get(), ++index, value);
  }
  if (code == SQLITE_OK) code = sqlite3_step(statement_.get());
  return finish(code);
}

base::Status Statement::finish(int code) {
  sqlite3* connection = sqlite3_db_handle(statement_.get());
  base::Status status;
  if (code != SQLITE_DONE) status = error_of(connection);  // before the reset, which changes the connection's message
  sqlite3_reset(statement_.get());
  sqlite3_clear_bindings(statement_.get());
  return status;
}

base::Result<Database> Database::open(const std::string& path, Access access) {
  sqlite3* connection = nullptr;
  // NOMUTEX: the holder locks already. No SQLITE_OPEN_CREATE: creating is for whoever sets the file's mode.
  const int flags = (access == Access::read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE) | SQLITE_OPEN_NOMUTEX;
  const int code = sqlite3_open_v2(path.c_str(), &connection, flags, nullptr);
  Database database(path, connection);  // also a connection that failed to open must be closed
  if (code != SQLITE_OK) return base::Error{base::ErrorKind::io, "cannot open " + path + ": " + sqlite3_errstr(code)};
  sqlite3_busy_timeout(connection, kBusyTimeout_ms);
  return database;
}

base::Result<Statement> Database::prepare(std::string_view sql) {
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v3(connection_.get(), sql.data(), static_cast<int>(sql.size()), SQLITE_PREPARE_PERSISTENT,
                         &statement, nullptr) != SQLITE_OK)
    return error_of(connection_.get());
  return Statement(statement);
}

base::Status Database::execute(const std::string& sql) {
  if (sqlite3_exec(connection_.get(), sql.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK)
    return error_of(connection_.get());
  return {};
}

base::Result<std::int64_t> Database::integer(std::string_view sql) {
  THAW_ASSIGN_OR_RETURN(Statement statement, prepare(sql));
  std::int64_t value = 0;
  THAW_RETURN_IF_ERROR(statement.each([&value](const Row& row) { value = row.integer(0); }));
  return value;
}

}  // namespace thaw::store
