#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "node/pull/range_plan.h"

namespace thaw::node::pull {

/// What a partly fetched file says of itself beside it, so that another run goes on where this one was cut. Only what is
/// durable is in it: it is written after the data. Pure.
///
///     {"journal":1,"source":"https://host/m.gguf","total_bytes":1185376,"etag":"\"5f…\"","ranges":[[0,65536],[131072,196608]]}
struct Journal {
  std::string source;  ///< for people, and against mistaking one file for another
  std::uint64_t total_bytes = 0;
  std::string etag;           ///< a strong one, with its quotes; empty: the server gave none
  std::vector<Range> ranges;  ///< in order, disjoint, within total_bytes
  bool operator==(const Journal&) const = default;
};

std::string to_json(const Journal& journal);
/// Fails with invalid for whatever does not hold to the above: the file is then fetched from its beginning.
base::Result<Journal> parse_journal(std::string_view text);

}  // namespace thaw::node::pull
