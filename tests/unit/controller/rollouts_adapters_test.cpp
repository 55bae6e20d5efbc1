// Adapters (LoRA) are models that share a base, whose revisions follow them.
#include "unit/controller/rollouts_rig.h"

namespace thaw::controller::test {
namespace {

/// An adapter of "m".
ModelEntry adapter(const char* name, const char* path = "/models/tone.gguf") {
  ModelEntry model;
  model.spec.name = ModelName(name);
  model.spec.base_model = "m";
  model.spec.source.path = path;
  model.weights_bytes = 1000;
  return model;
}

std::string names(const ModelEntry& base) {
  std::string all;
  for (const spec::Adapter& one : base.spec.adapters) all += (all.empty() ? "" : " ") + one.name;
  return all;
}

TEST_F(RolloutsTest, ABaseFollowsItsAdaptersAndServesWhileTheNextRevisionComesUp) {
  serve([&]() -> Task<void> {
    deploy(spec_of("one"));
    ask();
    EXPECT_EQ(orders(), "start 100 m");
    ready(100);
    deploy(adapter("tone"));
    EXPECT_EQ(orders(), "start 101 m@2") << "with the adapter, beside the one without";
    const auto tone = controller_->share("tone");
    EXPECT_EQ(rollouts_->share(kModel, 0)->spec.name.str(), "m");
    EXPECT_EQ(rollouts_->share_base(*tone, 0)->spec.name.str(), "m@2") << "the only one that has it";
    ready(101);
    EXPECT_TRUE(co_await until([&] { return rollouts_->serving(kModel).str() == "m@2"; }));
    EXPECT_EQ(names(*rollouts_->share(kModel, 0)), "tone");
    EXPECT_EQ(rollouts_->serving(ModelName("tone")).str(), "tone");
    EXPECT_FALSE(controller_->scheduler().has_model(ModelName("tone"))) << "it has no replicas";
  });
  serve([&]() -> Task<void> {
    EXPECT_EQ(line().active, 2U) << "nothing to follow after a restart";
    EXPECT_EQ(line().candidate, 0U);
    EXPECT_EQ(names(*rollouts_->share(kModel, 0)), "tone");
    co_return;
  });
}

TEST_F(RolloutsTest, WhoWaitsForAnAdapterIsAnsweredThoughAnotherComesMeanwhile) {
  serve(
      [&]() -> Task<void> {
        deploy(spec_of("one"));
        ask();
        ready(100);
        deploy(adapter("tone"));
        EXPECT_EQ(orders(), "start 100 m, start 101 m@2");
        Ticket& waits = arrive(rollouts_->share_base(*controller_->share("tone"), 0)->spec.name.str());
        deploy(adapter("b", "/models/b.gguf"));
        EXPECT_EQ(orders(), "start 102 m@3");
        ready(101);
        EXPECT_EQ(outcome(waits), "101 cold");
        controller_->answering(waits);
        ready(102);
        EXPECT_TRUE(co_await until([&] { return rollouts_->serving(kModel).str() == "m@3"; }));
        EXPECT_TRUE(known("m@2")) << "until its request is answered";
        controller_->ended(waits);
        EXPECT_TRUE(co_await until([&] { return !known("m@2"); }));
      },
      4ULL << 30);
}

TEST_F(RolloutsTest, ABaseThatSleepsTakesItsAdaptersAsTheyComeAndGo) {
  serve([&]() -> Task<void> {
    ModelEntry base = spec_of("one");
    base.memory_estimated = true;
    const std::uint64_t alone = *base.spec.resources.device_memory_bytes;
    deploy(base);
    deploy(adapter("tone"));
    deploy(adapter("b", "/models/b.gguf"));
    EXPECT_EQ(orders(), "");
    EXPECT_EQ(names(*rollouts_->share(kModel, 0)), "b tone");
    EXPECT_EQ(rollouts_->share(kModel, 0)->spec.resources.device_memory_bytes, alone + 2000) << "it holds them, too";
    deploy(adapter("tone", "/models/new.gguf"));
    EXPECT_EQ(rollouts_->share(kModel, 0)->spec.adapters[1].path, "/models/new.gguf");
    EXPECT_TRUE(store_->delete_rollout(ModelName("b")).ok());
    EXPECT_TRUE(rollouts_->remove(ModelName("b")));
    EXPECT_EQ(names(*rollouts_->share(kModel, 0)), "tone");
    deploy(base);
    EXPECT_EQ(names(*rollouts_->share(kModel, 0)), "tone") << "a deploy of the base does not know of it";
    EXPECT_EQ(rollouts_->share(kModel, 0)->spec.resources.device_memory_bytes, alone + 1000);
    co_return;
  });
}

TEST_F(RolloutsTest, AnAdapterThatItsBaseDoesNotStartWithIsServedByNobodyAndTheBaseGoesOn) {
  serve([&]() -> Task<void> {
    deploy(spec_of("one"));
    ask();
    ready(100);
    orders();
    deploy(adapter("tone"));
    EXPECT_EQ(orders(), "start 101 m@2");
    for (std::uint64_t instance = 101; instance < 104; ++instance) {
      if (instance > 101) {
        EXPECT_TRUE(co_await until([&] { return ordered(); }));
      }
      orders();
      down(instance, wire::DownReason::start_failed, "error loading the adapter");
      gone(instance);
    }
    EXPECT_TRUE(co_await until([&] { return line().candidate == 0; }));
    EXPECT_EQ(rollouts_->share_base(*controller_->share("tone"), 0), nullptr);
    EXPECT_EQ(rollouts_->share(kModel, 0)->spec.name.str(), "m");
    EXPECT_NE(line().last_failure.find("error loading the adapter"), std::string::npos) << line().last_failure;
  });
}

TEST_F(RolloutsTest, AnAdapterIsLoadedOnceIntoAReplicaAndAgainAfterAFailure) {
  serve([&]() -> Task<void> {
    ModelEntry base = spec_of("one");
    base.spec.engine = spec::EngineKind::vllm;
    deploy(base);
    deploy(adapter("tone"));
    Ticket& request = ask();
    EXPECT_EQ(orders(), "start 100 m@2");
    ready(100);
    co_await until_resolved(request);
    const auto replica = request.grant()->replica;
    const ModelName tone("tone");
    const auto first = controller_->load_adapter(*replica, tone);
    EXPECT_EQ(controller_->load_adapter(*replica, tone), first) << "the others wait for the same";
    EXPECT_EQ(orders(), "load 100 tone");
    controller_->node_event(wire::AdapterLoaded{base::InstanceId(100), tone, "rank 512 is too much"});
    EXPECT_EQ(first->state(), AdapterLoad::State::failed);
    EXPECT_EQ(first->error(), "rank 512 is too much");
    const auto second = controller_->load_adapter(*replica, tone);
    EXPECT_EQ(orders(), "load 100 tone");
    controller_->node_event(wire::AdapterLoaded{base::InstanceId(100), tone, ""});
    EXPECT_EQ(second->state(), AdapterLoad::State::loaded);
    EXPECT_EQ(controller_->load_adapter(*replica, tone), second);
    EXPECT_EQ(orders(), "");
    EXPECT_TRUE(store_->delete_rollout(tone).ok());
    EXPECT_TRUE(rollouts_->remove(tone));
    EXPECT_EQ(orders(), "unload 100 tone");
    EXPECT_EQ(rollouts_->serving(kModel).str(), "m@2") << "in place: nothing of its engine changed";
    const auto third = controller_->load_adapter(*replica, tone);
    orders();
    down(100, wire::DownReason::crashed, "gone");
    EXPECT_EQ(third->state(), AdapterLoad::State::replica_lost);
  });
}

}  // namespace
}  // namespace thaw::controller::test
