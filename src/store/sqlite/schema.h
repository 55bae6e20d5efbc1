#pragma once

#include "base/result.h"
#include "store/sqlite/database.h"

namespace thaw::store {

/// Refuses what is no database of Thaw's, was written by a newer Thaw, or is damaged; then brings it to the newest
/// schema.
base::Status prepare_schema(Database& database);

}  // namespace thaw::store
