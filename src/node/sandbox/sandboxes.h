#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <vector>

#include "node/sandbox/home.h"
#include "node/sandbox/pool.h"
#include "node/sandbox/runc.h"
#include "node/sandbox/refusals.h"
#include "node/sandbox/runsc.h"
#include "node/sandbox/sandbox.h"
#include "spec/model_spec.h"
#include "spec/server_config.h"

namespace thaw::node {

class ContainerImages;
class Egress;

/// The kinds of sandbox that this node makes, and which of them a model gets: its own (spec.sandbox), else the node's
/// (node.sandbox). Lifecycle: outlives every sandbox that it made. Any thread.
class Sandboxes {
 public:
  /// Begins to fill the pool of the node's own kind. gVisor sandboxes beside it, and those for restores, are made ahead
  /// from the first start or restore that wants one until kKeepGvisor after the last. Fails, with the remedy, when the
  /// node's own kind cannot be made here; any other is only missing then.
  static base::Result<std::unique_ptr<Sandboxes>> open(SandboxHome home, const spec::ServerConfig::Node& settings);

  /// Fails with unavailable when this node cannot make what the model wants: never something weaker in its place.
  [[nodiscard]] base::Result<SandboxMaker*> maker_for(const spec::ModelSpec& model) const;
  /// The kind that maker_for() makes.
  [[nodiscard]] spec::SandboxKind kind_for(const spec::ModelSpec& model) const { return model.sandbox.value_or(own_); }

  /// An empty one that was made ahead and suits the model; null when there is none.
  [[nodiscard]] std::unique_ptr<Sandbox> take(const spec::ModelSpec& model);
  /// An empty gVisor sandbox for RunscMaker::restore(); null when there is none.
  [[nodiscard]] std::unique_ptr<Sandbox> take_for_restore() { return restore_pool_ ? restore_pool_->take() : nullptr; }
  /// Between the two, and a little after, nothing is made ahead.
  void begin_start() {
    ++starts_;
    for (SandboxPool* pool : pools()) pool->begin_start();
  }
  void end_start() {
    for (SandboxPool* pool : pools()) pool->end_start();
    --starts_;
  }
  [[nodiscard]] bool starting() const { return starts_ > 0; }

  /// Where roots of models with spec.image come from; null: nowhere. Must outlive all starts.
  void set_container_images(ContainerImages* images) { container_images_ = images; }
  [[nodiscard]] ContainerImages* container_images() const { return container_images_; }

  /// The way out for models that have one; null: there is none. Must outlive all sandboxes.
  void set_egress(Egress* egress) { egress_ = egress; }
  [[nodiscard]] Egress* egress() const { return egress_; }

  /// For checkpoints; fails with why there are no gVisor sandboxes here.
  [[nodiscard]] base::Result<RunscMaker*> runsc() const;
  /// The same of runc.
  [[nodiscard]] base::Result<RuncMaker*> runc() const;

  /// An empty gVisor sandbox takes some 60 MB of memory.
  static constexpr base::Duration kKeepGvisor = base::Seconds(600);

 private:
  explicit Sandboxes(spec::SandboxKind own) : own_(own) {}
  [[nodiscard]] std::vector<SandboxPool*> pools() const;

  spec::SandboxKind own_;
  std::unique_ptr<Refusals> refusals_;  ///< with node.seccomp: report
  std::unique_ptr<RuncMaker> runc_;
  std::unique_ptr<RunscMaker> runsc_;
  std::unique_ptr<SandboxMaker> plain_;
  std::optional<base::Error> no_runc_;
  std::optional<base::Error> no_runsc_;
  std::unique_ptr<SandboxPool> pool_;          ///< of the node's own kind
  std::unique_ptr<SandboxPool> gvisor_pool_;   ///< null where that is the node's own kind, or there is none
  std::unique_ptr<SandboxPool> restore_pool_;  ///< null without gVisor
  std::atomic<int> starts_{0};
  ContainerImages* container_images_ = nullptr;
  Egress* egress_ = nullptr;
};

}  // namespace thaw::node
