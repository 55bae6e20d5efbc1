#pragma once

#include <string>

#include "control/scheduler.h"

namespace thaw::control::test {

/// An action in the words of scenario files: "start 1 a n/cpu0", "dispatch 7 to 1 cold after 200ms", ...
std::string describe(const Action& action);

std::string written(base::Duration duration);  ///< "0s", "200ms", ...

}  // namespace thaw::control::test
