#pragma once

#include <string>

#include "sim/experiment.h"

namespace thaw::sim {

/// One object, as `thaw sim --json` prints it: docs/simulator.md lists its keys. The same experiment gives the same
/// bytes.
std::string to_json(const Experiment& experiment);

/// Every request under every policy, a line each: docs/simulator.md lists the columns. A refused one has no delay.
std::string to_csv(const Trace& trace, const Experiment& experiment);

/// A page that needs nothing else: table, what every policy stands for, and plots as SVG (delays, memory held over
/// time).
std::string to_html(const Experiment& experiment);

}  // namespace thaw::sim
