#include "node/tiers/wait_answer.h"

#include <algorithm>

namespace thaw::node {
namespace {

constexpr auto kProbeTimeout = base::Millis(250);  // of one probe; then somebody may have asked to stop
constexpr auto kProbePause = base::Millis(1);

}  // namespace

Probe probe_for(const spec::ModelSpec& model, Probe usual) {
  if (model.engine != spec::EngineKind::command) return usual;
  return [model](const std::string& address, base::Duration timeout) { return probe_model(model, address, timeout); };
}

base::Status wait_answer(const Sandbox& sandbox, const TierCall& call, const Probe& probe) {
  for (;;) {
    if (sandbox.ended()) return base::Error{base::ErrorKind::unavailable, "the engine ended"};
    THAW_RETURN_IF_ERROR(call.go_on());
    THAW_ASSIGN_OR_RETURN(const Readiness readiness,
                          probe(sandbox.socket_path(), std::min<base::Duration>(kProbeTimeout, call.left())));
    if (readiness == Readiness::yes) return {};
    if (readiness == Readiness::failed)
      return base::Error{base::ErrorKind::internal,
                         "the engine answers its health check with an error that waiting does not mend"};
    if (auto on = call.pause(kProbePause); !on.ok()) return on;
  }
}

}  // namespace thaw::node
