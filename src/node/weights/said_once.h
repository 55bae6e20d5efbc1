#pragma once

#include <string>

namespace thaw::node {

/// True when this is asked for the first time in this process: what holds for a whole host or disk is worth one line in
/// the log, not one for each load. Remembers some hundred; beyond them nothing is said any more. Thread-safe.
bool first_time_said(const std::string& what);

}  // namespace thaw::node
