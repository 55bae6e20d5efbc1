#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "audit/record.h"
#include "base/result.h"
#include "base/time.h"

namespace thaw::audit {

struct LogOptions {
  std::string directory;                      ///< made, with mode 0700
  std::uint64_t segment_bytes = 8ULL << 20U;  ///< a file that has got so long is sealed
  std::uint32_t retention_days = 400;         ///< sealed files whose last record is older are removed
  std::string export_path;  ///< signed heads are appended here, one a line; empty: kept beside the log only
  base::Duration export_interval = base::Seconds(60);  ///< between heads, as long as there are new records
  std::function<std::int64_t()> unix_ms;               ///< the wall clock
  std::function<void(const std::string&)>
      warn;  ///< told, on a thread of the log's, of what an operator must see; may be empty
};

/// The audit log of one server. Records are made durable in groups by a thread of its own: while the disk is busy with
/// one group, the next gathers. Another thread signs and exports heads, so that a hanging export path holds nothing up.
/// Both sleep while there is nothing to do (but for an hourly look at what has expired). The destructor writes what was
/// appended, and a last head.
class AuditLog {
 public:
  static constexpr std::size_t kMaxWaiting = 4096;
  static constexpr std::size_t kMaxGroup = 512;

  /// Continues the log in options.directory, or begins one; records that it did, and what it had to mend. Blocking.
  /// ErrorKind::conflict: another process writes to it.
  static base::Result<std::unique_ptr<AuditLog>> open(LogOptions options);
  ~AuditLog();
  AuditLog(const AuditLog&) = delete;
  AuditLog& operator=(const AuditLog&) = delete;

  /// `done` is called once, on the log's thread, when the record is durable or cannot be written: the caller's act is
  /// then to be refused. When kMaxWaiting records wait already, it is called at once, on the caller's thread, with
  /// ErrorKind::exhausted. Sets seq, time, prev and hash itself. Any thread.
  void append(Record record, std::function<void(base::Status)> done);
  /// The same, blocking.
  base::Status write(Record record);

  /// Destroys a tenant's key: what was sealed with it can be read by nobody any more. False: it has none. Blocking; any thread.
  base::Result<bool> shred(const std::string& tenant);

  [[nodiscard]] std::uint64_t written() const;         ///< records, since the start
  [[nodiscard]] std::uint64_t failed() const;          ///< records that could not be written
  [[nodiscard]] std::uint64_t failed_exports() const;  ///< attempts to sign or export a head that failed

 private:
  struct Impl;
  explicit AuditLog(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace thaw::audit
