#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "store/usage.h"

namespace thaw::store {

/// Ended requests, in packs of many (usage_pack.h), and their sums by day, tenant, key and model. A SQLite file of its own beside the store's: it is written to many
/// times a second and may become big, and neither must reach models and keys. Thread-safe; blocking.
///
/// Sums are read from the daily table alone, so that they take no longer when the rows are many or gone.
class UsageDatabase final : public UsageSink {
 public:
  struct Retention {
    std::uint32_t rows_days = 90;     ///< rows that ended earlier are removed
    std::uint32_t daily_days = 1100;  ///< ... and daily sums
  };

  /// Opens or creates `path`. `former_store`: the store's file, whose usage (of versions that kept it there) is taken over; empty: none.
  static base::Result<std::unique_ptr<UsageDatabase>> open(const std::string& path, const std::string& former_store, Retention retention);
  ~UsageDatabase() override;

  /// Counts a start of the server, whose requests' ids begin with `process_tag`: its number, for usage_seq().
  base::Result<std::uint64_t> begin_start(std::uint32_t process_tag, std::int64_t now_unix_ms);

  base::Status append(std::span<const UsageRow> rows) override;
  base::Status tidy(std::int64_t now_unix_ms) override;

  /// At most kMaxSums groups, by name; more is ErrorKind::exhausted.
  static constexpr std::size_t kMaxSums = 100'000;
  [[nodiscard]] base::Result<std::vector<UsageSum>> sums(UsageBy by, const UsageFilter& filter) const;

  /// A row, its request's id as the client saw it ("" for rows of versions that did not keep it), and where it stands among all.
  struct Listed {
    UsageRow row;
    std::string request;
    std::uint64_t position = 0;
  };
  static constexpr std::size_t kMaxListed = 10'000;
  /// Rows behind position `after` (0: all) that arrived within the days, in the order in which they ended; at most `limit` (1 to kMaxListed). Who asks
  /// again behind the last one misses none that ended meanwhile.
  [[nodiscard]] base::Result<std::vector<Listed>> rows(const UsageFilter& filter, std::uint64_t after, std::size_t limit) const;

  /// Forgets who a tenant was: its rows are removed, its daily sums stay under a name that stands for nobody, without keys; what SQLite removed is
  /// overwritten in the file.
  struct Erased {
    std::uint64_t rows = 0;
    std::uint64_t days = 0;  ///< daily sums that stay
    std::string stands_as;   ///< "" when nothing stays
  };
  base::Result<Erased> erase_tenant(const std::string& tenant);

 private:
  struct Impl;
  explicit UsageDatabase(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace thaw::store
