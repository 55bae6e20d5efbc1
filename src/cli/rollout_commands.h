#pragma once

#include <string>

#include <boost/json/object.hpp>

#include "cli/commands.h"

namespace thaw::cli {

void add_rollout_commands(Commands& commands);  // revisions, rollback, rollout
void add_reload_command(Commands& commands);    // reload

/// "revision 2 serves; revision 3 gets 10% of the requests", from an answer that has `revision` and `rollout`.
std::string rollout_line(const boost::json::object& answer);

}  // namespace thaw::cli
