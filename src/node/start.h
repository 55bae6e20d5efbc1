#pragma once

#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "base/result.h"
#include "node/agent.h"
#include "node/sandbox/sandboxes.h"

namespace thaw::node {

class CompileCaches;
class ImageService;

/// How an instance came up.
struct StartOutcome {
  std::vector<wire::Phase> phases;
  wire::Way way = wire::Way::start;
  std::string fell_back;  ///< why it was not restored though that was asked for; empty: it was not, or was
};

/// What a start in progress may ask of, and hand to, whoever ordered it.
class StartOwner {
 public:
  virtual ~StartOwner() = default;
  /// True when the start is pointless by now: somebody asked for a stop, or the process ended.
  [[nodiscard]] virtual bool over() = 0;
  /// Sleeps up to `duration`; returns over(), at once when that becomes true.
  [[nodiscard]] virtual bool wait(base::Duration duration) = 0;
  /// Told of the model's files before an engine opens them.
  virtual void opens(const std::vector<std::string>& files) = 0;
  /// Stop is requested when over() becomes true.
  [[nodiscard]] virtual std::stop_token stop_token() = 0;
  /// Takes the sandbox over and watches its process from now on. The reference stays valid until the start returns.
  virtual base::Result<Sandbox*> take_over(std::unique_ptr<Sandbox> sandbox) = 0;
};

/// Carries one start out, from nothing to an engine that answers. Blocking, on a start worker.
/// `received`: when the command came; phases and the deadline count from there. `images` and `caches`: null where there are none. A restore has half of the time; one
/// that fails goes on as a start.
/// Errors: timeout when the deadline passed; unavailable when owner.over() ended it; anything else is why it failed. On error the sandbox is with the
/// owner or gone already.
base::Result<StartOutcome> carry_out_start(const wire::StartInstance& command, base::TimePoint received, const AgentConfig& config,
                                                       Sandboxes& sandboxes, ImageService* images, CompileCaches* caches, StartOwner& owner);

}  // namespace thaw::node
