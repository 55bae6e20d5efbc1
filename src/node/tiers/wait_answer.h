#pragma once

#include <functional>

#include "node/engine/engine.h"
#include "node/tiers/driver.h"

namespace thaw::node {

using Probe = std::function<base::Result<Readiness>(const std::string& socket_path, base::Duration timeout)>;

/// `usual`, or for an engine with a health check of its own (probe_model) that one.
Probe probe_for(const spec::ModelSpec& model, Probe usual);

/// Asks the engine for its health until it answers. Fails with timeout (deadline), unavailable (stop requested, process
/// ended), or internal when it answers with an error that waiting does not mend.
base::Status wait_answer(const Sandbox& sandbox, const TierCall& call, const Probe& probe);

}  // namespace thaw::node
