#pragma once

#include <atomic>
#include <memory>
#include <optional>

#include "node/sandbox/home.h"
#include "node/sandbox/pool.h"
#include "node/sandbox/runsc.h"
#include "node/sandbox/sandbox.h"
#include "spec/model_spec.h"
#include "spec/server_config.h"

namespace thaw::node {

/// The kinds of sandbox that this node makes, and which of them a model gets: its own (spec.sandbox), else the node's
/// (node.sandbox). Lifecycle: outlives every sandbox that it made. Any thread.
class Sandboxes {
 public:
  /// Begins to fill the pool. Fails, with the remedy, when the node's own kind cannot be made here; any other is only
  /// missing then.
  static base::Result<std::unique_ptr<Sandboxes>> open(const SandboxHome& home,
                                                       const spec::ServerConfig::Node& settings);

  /// Fails with unavailable when this node cannot make what the model wants: never something weaker in its place.
  [[nodiscard]] base::Result<SandboxMaker*> maker_for(const spec::ModelSpec& model) const;
  /// The kind that maker_for() makes.
  [[nodiscard]] spec::SandboxKind kind_for(const spec::ModelSpec& model) const { return model.sandbox.value_or(own_); }

  /// An empty one that was made ahead and suits the model; null when there is none.
  [[nodiscard]] std::unique_ptr<Sandbox> take(const spec::ModelSpec& model);
  /// Between the two, and a little after, nothing is made ahead.
  void begin_start() {
    ++starts_;
    pool_->begin_start();
  }
  void end_start() {
    pool_->end_start();
    --starts_;
  }
  [[nodiscard]] bool starting() const { return starts_ > 0; }

  /// For checkpoints; fails with why there are no gVisor sandboxes here.
  [[nodiscard]] base::Result<RunscMaker*> runsc() const;

 private:
  explicit Sandboxes(spec::SandboxKind own) : own_(own) {}

  spec::SandboxKind own_;
  std::unique_ptr<SandboxMaker> runc_;
  std::unique_ptr<RunscMaker> runsc_;
  std::unique_ptr<SandboxMaker> plain_;
  std::optional<base::Error> no_runc_;
  std::optional<base::Error> no_runsc_;
  std::unique_ptr<SandboxPool> pool_;  ///< of the node's own kind
  std::atomic<int> starts_{0};
};

}  // namespace thaw::node
