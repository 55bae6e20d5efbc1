#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "store/sqlite/database.h"

namespace thaw::store {

/// The version that prepare_schema leads to.
std::int64_t newest_schema();

/// Where a database of an older version is kept as it was before it was migrated: beside it, "thaw.db.schema-3.bak".
std::string backup_of_schema(const std::string& path, std::int64_t version);

/// Checks that `database` is ours and intact, then sets its modes and brings its schema up to date, in one transaction:
/// when that fails it is what it was. What it was is copied to a file of its own first. Refuses, with a remedy, a newer
/// database, another program's and a damaged one.
base::Status prepare_schema(Database& database);

}  // namespace thaw::store
