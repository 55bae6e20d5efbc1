#pragma once

#include <cstddef>
#include <cstdint>

#include "store/sqlite/database.h"
#include "store/usage_pack.h"

namespace thaw::store {

inline constexpr unsigned kPackRowBits = 13;
inline constexpr std::size_t kMaxPackRows = 1U << kPackRowBits;  ///< of one pack: what the journal moves at once

/// Where a row lies, as a number that grows in the order in which rows ended. `pack`: from 1.
constexpr std::uint64_t pack_position(std::uint64_t pack, std::uint64_t row) {
  return pack << kPackRowBits | row;
}

/// Puts rows into packs of the database. Within a transaction of its user's; not thread-safe; must not outlive the
/// database.
class PackWriter {
 public:
  static base::Result<PackWriter> prepare(Database& database);
  base::Status add(const PackedRow& row);
  /// Stores what was added since, if anything. Call it at the end.
  base::Status finish();
  void discard() { packer_.clear(); }  ///< the transaction has failed

 private:
  Statement insert_;
  RowPacker packer_;
  std::int64_t first_arrived_ms_ = 0, last_arrived_ms_ = 0, last_ended_ms_ = 0;
  std::uint64_t first_seq_ = 0;
};

}  // namespace thaw::store
