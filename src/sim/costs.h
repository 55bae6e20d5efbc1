#pragma once

#include "base/time.h"
#include "sim/fleet.h"
#include "sim/trace.h"
#include "wire/messages.h"

/// What one thing costs alone on a machine: as measured of its kind of model where it was, else by the fleet's costs
/// and the roofline. docs/simulator.md has the formulas.
namespace thaw::sim {

base::Duration fixed_cost(const Fleet& fleet, const ModelClass& kind, wire::Way way);  ///< what moves no weights
base::Duration freeze_cost(const Fleet& fleet, const ModelClass& kind);
base::Duration stop_cost(const Fleet& fleet, const ModelClass& kind);
/// Seconds to read a prompt.
double prompt_s(const Fleet& fleet, const NodeShape& shape, const ModelClass& kind, std::uint32_t tokens);
/// Seconds of a step, beside what each running sequence adds.
double step_s(const Fleet& fleet, const NodeShape& shape, const ModelClass& kind);
/// What the first answer takes longer after that way up. `missing_share`: of its weights, that were not in memory;
/// `late_share`: of its weights, that come into memory which the machine had given back.
base::Duration first_answer_cost(const ModelClass& kind, wire::Way way, double missing_share, double late_share);

}  // namespace thaw::sim
