#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "node/pull/blob_store.h"

namespace thaw::node::pull {

/// The file in which it stands what a source led to. Pure.
std::string to_json(const PulledSet& set);
/// Fails with invalid: the source is then fetched again.
base::Result<PulledSet> parse_set(std::string_view text);

}  // namespace thaw::node::pull
