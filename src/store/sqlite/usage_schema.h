#pragma once

#include <string>

#include "base/result.h"
#include "store/sqlite/database.h"

namespace thaw::store {

/// Brings the usage database to the newest schema; refuses another program's, a newer thaw's and a damaged one.
base::Status prepare_usage_schema(Database& database);

/// Takes over the rows that older versions kept in the store's file, and removes them there. Any number of times, also after a crash in the middle.
base::Status take_former_usage(Database& database, const std::string& former_store);

}  // namespace thaw::store
