#include "store/sqlite/usage_packs.h"

#include <algorithm>

namespace thaw::store {

base::Result<PackWriter> PackWriter::prepare(Database& database) {
  PackWriter writer;
  THAW_ASSIGN_OR_RETURN(
      writer.insert_,
      database.prepare("INSERT INTO packs(first_arrived_ms, last_arrived_ms, last_ended_ms, first_seq, rows) "
                       "VALUES(?1, ?2, ?3, ?4, ?5)"));
  return writer;
}

base::Status PackWriter::add(const PackedRow& row) {
  if (packer_.rows() == kMaxPackRows) THAW_RETURN_IF_ERROR(finish());
  const std::int64_t ended = row.arrived_unix_ms + row.total_ms;
  if (packer_.rows() == 0) {
    first_arrived_ms_ = last_arrived_ms_ = row.arrived_unix_ms;
    last_ended_ms_ = ended;
    first_seq_ = row.seq;
  }
  first_arrived_ms_ = std::min(first_arrived_ms_, row.arrived_unix_ms);
  last_arrived_ms_ = std::max(last_arrived_ms_, row.arrived_unix_ms);
  last_ended_ms_ = std::max(last_ended_ms_, ended);
  packer_.add(row);
  return {};
}

base::Status PackWriter::finish() {
  if (packer_.rows() == 0) return {};
  base::Status stored =
      insert_.run(first_arrived_ms_, last_arrived_ms_, last_ended_ms_, first_seq_, Blob{packer_.bytes()});
  packer_.clear();
  return stored;
}

}  // namespace thaw::store
