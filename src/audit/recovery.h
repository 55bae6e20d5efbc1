#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "audit/record.h"
#include "audit/signing_key.h"

namespace thaw::audit {

/// How a log goes on after its writer ended, in whatever way.
struct Continuation {
  std::uint64_t last_seq = 0;  ///< the next record has the next number
  std::string last_hash = first_prev();
  std::string segment;              ///< the file to append to; empty: begin a new one
  std::uint64_t segment_bytes = 0;  ///< its length, all of it whole records
  std::vector<Record> notes;  ///< what was found and mended, to be recorded: event, action, subject and detail are set
  std::vector<Record> unfinished;  ///< acts of the last file that were begun and have no result, at most kMaxUnfinished
  static constexpr std::size_t kMaxUnfinished = 4096;
};

/// Reads the end of the log in `directory`. What stands behind the last whole record of the last file is the rest of a
/// write that never ended (nothing of it was ever answered): it is cut off, and kept in a file "torn-…" beside the log.
/// Damage before a whole record is left where it is, since it is evidence. `head`: the last signed one, if there is
/// any; a log that ends before it goes on after it, so that the gap can never be filled.
base::Result<Continuation> recover(const std::string& directory, const std::optional<Head>& head);

}  // namespace thaw::audit
