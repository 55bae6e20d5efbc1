#pragma once

#include <optional>

#include "node/tiers/driver.h"
#include "node/tiers/phases.h"

/// What the drivers that keep the process say in the end, in one way.
namespace thaw::node {

/// Why a step failed, and where that left the instance.
struct TierFailure {
  base::Error error;
  Rests rests = Rests::lost;
};

/// The process is gone, whatever was being done.
inline base::Error engine_ended() { return {base::ErrorKind::unavailable, "the engine ended"}; }

/// `reached`: where the instance is if nothing failed. `holds`: measures it; not called for one that is lost.
template <typename Holds>
TierOutcome conclude(std::optional<TierFailure> failure, Rests reached, PhaseClock& clock, const Holds& holds) {
  TierOutcome outcome;
  outcome.phases = clock.take();
  outcome.rests = failure ? failure->rests : reached;
  if (outcome.rests != Rests::lost) outcome.held = holds();
  if (outcome.rests == Rests::ready && reached == Rests::ready) outcome.held.weights_bytes = 0;  // still coming in
  if (failure) outcome.error = std::move(failure->error);
  return outcome;
}

}  // namespace thaw::node
