#pragma once

#include <string>

#include "cli/context.h"

namespace thaw::cli {

/// Has the server remove what no model has by a POST to `route`, or with `dry_run` say what would go, and prints it.
int collect_garbage(Context& context, const std::string& route, bool dry_run);

}  // namespace thaw::cli
