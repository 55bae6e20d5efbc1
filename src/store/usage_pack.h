#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"

/// Many ended requests in few bytes, as they lie in the database (docs/decisions/0037). A row of a table for each would
/// cost more than all else that is done for a request beside relaying it; so the rows of a group are one value, of
/// about 18 bytes a request.
///
///     pack := version (1 byte, 1), row*
///     row  := 13 numbers in the order of PackedRow's members (outcome, way and dispatched are one), each a varint as
///     in Protocol Buffers: seven bits
///             a byte, the lowest first, the eighth says that more follow. seq and arrived_unix_ms are differences to
///             the row before (0 before the first), and like total_ms zigzag-coded, since each may go back.
namespace thaw::store {

/// One request. Names are numbers that the database knows.
struct PackedRow {
  std::uint64_t seq = 0;
  std::int64_t arrived_unix_ms = 0;
  std::int64_t total_ms = 0;  ///< below 0 when the wall clock was set back
  std::uint64_t tenant = 0;   ///< 0: this place is empty, its tenant was erased
  std::uint64_t key = 0;
  std::uint64_t model = 0;
  std::uint8_t outcome = 0, way = 0;
  bool dispatched = false;
  std::uint16_t status = 0;
  std::uint32_t prompt_tokens = 0, completion_tokens = 0;
  std::uint64_t wait_us = 0, service_us = 0, start_us = 0;
  bool operator==(const PackedRow&) const = default;
};

class RowPacker {
 public:
  RowPacker() { clear(); }
  void add(const PackedRow& row);
  [[nodiscard]] std::size_t rows() const { return rows_; }
  /// Valid until the next call.
  [[nodiscard]] std::string_view bytes() const { return bytes_; }
  void clear();  ///< keeps its memory

 private:
  std::string bytes_;
  std::size_t rows_ = 0;
  std::uint64_t last_seq_ = 0;
  std::int64_t last_arrived_ = 0;
};

/// Tells every row of a pack, whatever the bytes are: those behind what cannot be read are left out, and said
/// (ErrorKind::io).
base::Status unpack_rows(std::string_view bytes, const std::function<void(const PackedRow&)>& on_row);

}  // namespace thaw::store
