#pragma once

#include <string>

namespace thaw::control::test {

/// Plays one scenario file (format: tests/scenarios/README.md) against a Scheduler. Empty if every expectation held,
/// else what differed, with the file's line and everything that really happened.
std::string play_scenario(const std::string& path);

/// The same from text; `name` stands in front of line numbers.
std::string play_scenario_text(const std::string& name, const std::string& text);

}  // namespace thaw::control::test
