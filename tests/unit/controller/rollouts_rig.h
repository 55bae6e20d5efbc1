#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/revision.h"
#include "controller/rollouts.h"
#include "spec/parse.h"
#include "unit/controller/harness.h"
#include "unit/temp_dir.h"

/// Revisions of models on a real controller, scheduler and store, with a node that does what the test says.
namespace thaw::controller::test {

using base::ModelName;
using net::Task;

inline const ModelName kModel("m");

class RolloutsTest : public ControllerTest {
 protected:
  /// The script with a server's parts around it, as after a start with what is stored.
  void serve(Script script, std::uint64_t budget_bytes = 1ULL << 30) {
    play(
        [&]() -> Task<void> {
          store_ = std::move(store::open_sqlite(directory_.file("t.db"))).value();
          net::Worker store_worker(*loop_, 1);
          net::Worker files_worker(*loop_, 1);
          ModelFiles files(
              {.loop = *loop_,
               .controller = *controller_,
               .store = *store_,
               .store_worker = store_worker,
               .files_worker = files_worker,
               .metrics = metrics_,
               .send = [](wire::NodeCommand) {},
               .inspect = [](const spec::ModelSpec&) { return base::Result<node::ModelFacts>(node::ModelFacts{}); }});
          const auto stored = store_->models();
          for (const store::StoredModel& model : *stored) {
            ModelEntry entry;
            entry.spec = *spec::parse_model(model.spec_json, "store", "/");
            entry.spec.name = model.name;
            controller_->deploy(std::move(entry));
          }
          Rollouts rollouts({*loop_, *controller_, *store_, store_worker, files});
          EXPECT_TRUE(rollouts.load().ok());
          rollouts_ = &rollouts;
          co_await script();
          co_await store_worker.run([] { return 0; });  // what was given to it is stored
          rollouts_ = nullptr;
        },
        budget_bytes);
    store_.reset();
  }

  static ModelEntry spec_of(const char* arg) {
    ModelEntry model = entry("m");
    model.spec.args = {arg};
    return model;
  }

  control::Succession deploy(ModelEntry entry, const control::RolloutSettings& settings = {}, std::uint32_t to = 0) {
    Rollouts::Plan plan = rollouts_->plan(std::move(entry), {}, settings, to);
    const control::Succession succession = plan.succession;
    EXPECT_TRUE(store_->change_rollout(plan.change).ok());
    rollouts_->carry_out(std::move(plan));
    return succession;
  }

  Ticket& ask(std::uint64_t key = 0) { return arrive(rollouts_->share(kModel, key)->spec.name.str()); }
  [[nodiscard]] const RolloutLine& line() const { return *rollouts_->find(kModel); }
  [[nodiscard]] bool known(const char* name) const { return controller_->find(ModelName(name)) != nullptr; }

  /// What was told of takeovers since the last call: "took_over/by_hand: revision 2 serves ...", a line each.
  std::string told() {
    std::string text;
    for (const ModelEvent& event : controller_->events().since(kModel, told_)) {
      told_ = event.seq;
      if (event.kind < ModelEvent::Kind::takeover && event.kind != ModelEvent::Kind::deployed) continue;
      text += std::string(to_string(event.kind)) + "/" + to_string(event.cause.rule) + ": " + event.reason + "\n";
    }
    return text;
  }

  std::unique_ptr<store::Store> store_;
  Rollouts* rollouts_ = nullptr;
  ::thaw::test::TempDir directory_;
  std::uint64_t told_ = 0;
};

}  // namespace thaw::controller::test
