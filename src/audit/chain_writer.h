#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "audit/durable_file.h"
#include "audit/record.h"
#include "audit/recovery.h"
#include "audit/signing_key.h"

namespace thaw::audit {

/// The log's last record.
struct Tip {
  std::uint64_t seq = 0;
  std::string hash;
};

/// Appends records to the files of a log: numbers and chains them, makes them durable, begins a new file when one is
/// full, removes the oldest. One thread. What it was told is durable is never taken back; what could not be written
/// leaves no trace, and the next call tries again.
class ChainWriter {
 public:
  /// `segment_bytes`: a file that has got so long is sealed before the next write. Both outlive this.
  ChainWriter(std::string directory, std::uint64_t segment_bytes, const SigningKey& key);

  /// Goes on where recover() says. Writes nothing yet.
  base::Status open(const Continuation& from);

  /// Sets seq, prev and hash of each, and writes all in one go. All are durable, or an error and none is in the log.
  base::Status append(std::span<Record> records);

  /// Removes sealed files whose last record is older than `before_unix_ms`; each removal is recorded first.
  base::Status expire(std::int64_t before_unix_ms, std::int64_t now_unix_ms);

  [[nodiscard]] const Tip& tip() const { return tip_; }

 private:
  base::Status write_group(std::span<Record> records);
  base::Status check_untouched();
  base::Status rotate(std::int64_t unix_ms);
  base::Status begin_segment();

  std::string directory_;
  std::uint64_t segment_bytes_;
  const SigningKey& key_;
  Tip tip_;
  Fd file_;
  std::string path_;
  std::uint64_t durable_bytes_ = 0;  ///< of the file; what stands behind them is not part of the log
  bool cut_needed_ = false;          ///< a write failed, and may have left something behind durable_bytes_
  bool sealed_ = false;              ///< the file has its last record
};

}  // namespace thaw::audit
