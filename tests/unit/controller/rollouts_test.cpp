// How a changed spec takes over, comes back, shares the requests and survives a restart.
#include "unit/controller/rollouts_rig.h"

namespace thaw::controller::test {
namespace {

TEST_F(RolloutsTest, TheOldOneServesUntilTheNewOneIsReadyAndThenAnswersItsLastRequest) {
  serve([&]() -> Task<void> {
    EXPECT_EQ(deploy(spec_of("one")), control::Succession::at_once);
    Ticket& first = ask();
    EXPECT_EQ(orders(), "start 100 m");
    ready(100);
    co_await until_resolved(first);
    controller_->answering(first);

    EXPECT_EQ(deploy(spec_of("two")), control::Succession::beside);
    EXPECT_EQ(orders(), "start 101 m@2") << "without anybody asking for it";
    EXPECT_EQ(rollouts_->serving(kModel).str(), "m");
    Ticket& second = ask();
    EXPECT_EQ(outcome(second), "waiting") << "for its turn on the old one, which answers one at a time";

    ready(101);
    EXPECT_TRUE(co_await until([&] { return rollouts_->serving(kModel).str() == "m@2"; }));
    EXPECT_EQ(line().active, 2U);
    EXPECT_EQ(outcome(ask()), "101 warm");
    co_await pause();
    EXPECT_TRUE(known("m")) << "two requests are its own still";
    controller_->ended(first);
    EXPECT_EQ(outcome(second), "100 cold");  // it had to wait
    controller_->answering(second);
    controller_->ended(second);
    EXPECT_TRUE(co_await until([&] { return !known("m"); }));
    EXPECT_EQ(orders(), "stop 100");
  });
  serve([&]() -> Task<void> {
    EXPECT_EQ(rollouts_->serving(kModel).str(), "m@2");
    EXPECT_FALSE(known("m"));
    EXPECT_EQ(line().revisions.size(), 2U);
    co_return;
  });
}

TEST_F(RolloutsTest, OneThatDoesNotBecomeReadyInTimeLeavesTheOldOneServing) {
  serve([&]() -> Task<void> {
    deploy(spec_of("one"));
    Ticket& first = ask();
    ready(100);
    co_await until_resolved(first);
    controller_->answering(first);
    deploy(spec_of("two"), {.timeout = base::Millis(1)});
    EXPECT_TRUE(co_await until([&] { return !known("m@2"); }));
    EXPECT_EQ(rollouts_->serving(kModel).str(), "m");
    EXPECT_NE(line().last_failure.find("in time"), std::string::npos) << line().last_failure;
    EXPECT_NE(line().find(2)->failure, "");
    EXPECT_EQ(line().candidate, 0U);
    controller_->ended(first);
    EXPECT_EQ(outcome(ask()), "100 warm");
  });
  serve([&]() -> Task<void> {
    EXPECT_NE(line().find(2)->failure, "") << "that is remembered";
    EXPECT_FALSE(known("m@2"));
    EXPECT_EQ(line().next_number, 3U);
    co_return;
  });
}

TEST_F(RolloutsTest, OneWhoseStartsFailIsGivenUp) {
  serve([&]() -> Task<void> {
    deploy(spec_of("one"));
    Ticket& first = ask();
    ready(100);
    co_await until_resolved(first);
    controller_->answering(first);
    orders();
    deploy(spec_of("two"));
    for (std::uint64_t instance = 101; instance < 101 + control::kRolloutStartFailures; ++instance) {
      EXPECT_TRUE(co_await until([&] { return ordered(); }));
      EXPECT_EQ(orders(), "start " + std::to_string(instance) + " m@2");
      crash(instance);
    }
    EXPECT_TRUE(co_await until([&] { return !known("m@2"); }));
    EXPECT_EQ(line().active, 1U);
    controller_->ended(first);
  });
}

TEST_F(RolloutsTest, AModelAtZeroIsReplacedAtOnceAndOtherBoundsReplaceNothing) {
  serve([&]() -> Task<void> {
    deploy(spec_of("one"));
    EXPECT_EQ(deploy(spec_of("two")), control::Succession::at_once);
    EXPECT_EQ(rollouts_->serving(kModel).str(), "m@2");
    EXPECT_TRUE(co_await until([&] { return !known("m"); }));
    EXPECT_EQ(orders(), "");
    ask();
    EXPECT_EQ(orders(), "start 100 m@2");

    ModelEntry bounds = spec_of("two");
    bounds.spec.scaling.max_replicas = 3;
    EXPECT_EQ(deploy(bounds), control::Succession::in_place);
    EXPECT_EQ(line().active, 3U);
    EXPECT_EQ(rollouts_->serving(kModel).str(), "m@2") << "its engines go on";
    EXPECT_EQ(controller_->find(ModelName("m@2"))->spec.scaling.max_replicas, 3U);

    const std::uint32_t before = line().next_number;
    EXPECT_EQ(deploy(bounds), control::Succession::in_place);
    EXPECT_EQ(line().next_number, before) << "the same again is no revision";
    EXPECT_EQ(orders(), "");
  });
}

TEST_F(RolloutsTest, TwoShareTheRequestsUntilSomebodyDecides) {
  serve([&]() -> Task<void> {
    deploy(spec_of("one"));
    EXPECT_EQ(deploy(spec_of("two"), {.percent = 30}), control::Succession::beside) << "also of a model at zero";
    const auto to_candidate = [&] {
      int count = 0;
      for (std::uint64_t key = 1; key <= 1000; ++key)
        count += rollouts_->share(kModel, key)->spec.name.str() == "m@2" ? 1 : 0;
      return count;
    };
    EXPECT_EQ(to_candidate(), 0) << "not before it is ready";
    ready(100);
    EXPECT_TRUE(co_await until([&] { return line().stage == control::RolloutStage::split; }));
    EXPECT_NEAR(to_candidate(), 300, 60);
    EXPECT_EQ(to_candidate(), to_candidate()) << "and the same ones each time";
    EXPECT_EQ(controller_->find(ModelName("m@2"))->spec.scaling.min_replicas, 0U) << "from here on it may go to zero";

    EXPECT_TRUE(rollouts_->plan_percent(kModel, 60).ok());
    rollouts_->set_percent(kModel, 60, "");
    EXPECT_NEAR(to_candidate(), 600, 60);
    rollouts_->set_percent(kModel, 100, "");
    EXPECT_EQ(line().active, 2U);
    EXPECT_EQ(to_candidate(), 1000);
    EXPECT_TRUE(co_await until([&] { return !known("m"); }));
    EXPECT_FALSE(rollouts_->plan_percent(kModel, 50).ok()) << "there is nothing to share with any more";
  });
}

TEST_F(RolloutsTest, ASplitThatIsGivenUpDrainsTheCandidate) {
  serve([&]() -> Task<void> {
    deploy(spec_of("one"));
    deploy(spec_of("two"), {.percent = 50});
    ready(100);
    EXPECT_TRUE(co_await until([&] { return line().stage == control::RolloutStage::split; }));
    Ticket& on_candidate = arrive("m@2");
    controller_->answering(on_candidate);
    rollouts_->set_percent(kModel, 0, "rolled back");
    EXPECT_EQ(rollouts_->share(kModel, 7)->spec.name.str(), "m");
    co_await pause();
    EXPECT_TRUE(known("m@2"));
    controller_->ended(on_candidate);
    EXPECT_TRUE(co_await until([&] { return !known("m@2"); }));
    EXPECT_EQ(line().find(2)->failure, "rolled back");
  });
}

TEST_F(RolloutsTest, ARevisionOfBeforeComesBackUnderANameThatIsFree) {
  serve([&]() -> Task<void> {
    deploy(spec_of("one"));
    deploy(spec_of("two"));
    EXPECT_TRUE(co_await until([&] { return !known("m"); }));
    EXPECT_EQ(deploy(spec_of("one"), {}, 1), control::Succession::at_once);
    EXPECT_EQ(line().active, 1U);
    EXPECT_EQ(rollouts_->serving(kModel).str(), "m");
    ModelEntry bounds = spec_of("one");
    bounds.spec.scaling.max_replicas = 2;
    deploy(bounds);
    EXPECT_EQ(line().active, 3U);
    // Revision 3 runs under the name of revision 1: a share for that one needs another.
    EXPECT_EQ(deploy(spec_of("one"), {.percent = 10}, 1), control::Succession::beside);
    EXPECT_NE(line().find(1)->runs_as, rollouts_->serving(kModel));
    EXPECT_EQ(base::model_of(line().find(1)->runs_as), kModel);
    EXPECT_EQ(rollouts_->number_of(line().find(1)->runs_as), 1U);
  });
}

TEST_F(RolloutsTest, TheNewestDeployCountsAndOldRevisionsGo) {
  serve([&]() -> Task<void> {
    deploy(spec_of("one"));
    Ticket& first = ask();
    ready(100);
    co_await until_resolved(first);
    controller_->answering(first);
    deploy(spec_of("two"));
    deploy(spec_of("three"));
    EXPECT_FALSE(known("m@2"));
    EXPECT_TRUE(known("m@3"));
    EXPECT_NE(line().find(2)->failure.find("revision 3"), std::string::npos);
    controller_->ended(first);
    for (int i = 0; i < 15; ++i) {
      ModelEntry next = spec_of("bounds");
      next.spec.args = spec_of("one").spec.args;
      next.spec.scaling.max_replicas = static_cast<std::uint32_t>(i + 2);
      deploy(next);
    }
    EXPECT_EQ(line().revisions.size(), control::kKeptRevisions);
    EXPECT_EQ(line().active, 18U);
    EXPECT_FALSE(known("m@3")) << "a deploy gives up what was on its way";
  });
  serve([&]() -> Task<void> {
    EXPECT_EQ(line().revisions.size(), control::kKeptRevisions);
    co_return;
  });
}

TEST_F(RolloutsTest, ARestartInTheMiddleGoesOn) {
  serve([&]() -> Task<void> {
    deploy(spec_of("one"));
    Ticket& first = ask();
    ready(100);
    co_await until_resolved(first);
    controller_->answering(first);
    deploy(spec_of("two"), {.percent = 25});
    EXPECT_EQ(line().candidate, 2U);
  });
  orders();
  serve([&]() -> Task<void> {
    EXPECT_EQ(rollouts_->serving(kModel).str(), "m");
    EXPECT_EQ(line().candidate, 2U);
    EXPECT_EQ(orders(), "start 100 m@2");
    ready(100);
    EXPECT_TRUE(co_await until([&] { return line().stage == control::RolloutStage::split; }));
    EXPECT_EQ(line().percent, 25U);
  });
}

TEST_F(RolloutsTest, TheTimeThatWasAskedForCountsAfterARestartToo) {
  serve([&]() -> Task<void> {
    deploy(spec_of("one"));
    deploy(spec_of("two"), {.percent = 25, .timeout = base::Seconds(86'400)});
    EXPECT_EQ(line().timeout, base::Seconds(86'400));
    co_return;
  });
  serve([&]() -> Task<void> {
    EXPECT_GT(line().deadline, loop_->now() + base::Seconds(80'000)) << "not the default of ten minutes";
    EXPECT_NE(told().find("at most 24h"), std::string::npos);
    deploy(spec_of("three"), {.percent = 25, .timeout = base::Millis(1)});
    EXPECT_TRUE(co_await until([&] { return !line().last_failure.empty(); }));
  });
  serve([&]() -> Task<void> {
    EXPECT_EQ(line().candidate, 0U);
    co_return;
  });
}

TEST_F(RolloutsTest, EventsSayWhatBecameOfEachRevision) {
  serve([&]() -> Task<void> {
    deploy(spec_of("one"));
    EXPECT_EQ(told(), "deployed/none: deployed\n") << "the first takes over from nobody";
    deploy(spec_of("two"));
    EXPECT_EQ(told(),
              "deployed/none: deployed\ntook_over/by_hand: revision 2 serves from the next request on: nothing runs of "
              "revision 1\n");
    EXPECT_TRUE(co_await until([&] { return !known("m"); }));
    EXPECT_EQ(told(), "drained/none: nothing waits for revision 1 any more: its replicas end\n");
    deploy(spec_of("two"));
    EXPECT_EQ(told(), "deployed/none: deployed again\n") << "the same again is no revision";
    ModelEntry bounds = spec_of("two");
    bounds.spec.scaling.max_replicas = 3;
    deploy(bounds);
    EXPECT_EQ(told(),
              "deployed/none: deployed again\ntook_over/by_hand: revision 3 serves on the engines of revision 2: only "
              "bounds changed\n");

    Ticket& first = ask();
    ready(100);
    co_await until_resolved(first);
    controller_->answering(first);
    deploy(spec_of("four"), {.timeout = base::Seconds(90)});
    EXPECT_EQ(
        told(),
        "takeover/by_hand: revision 4 starts beside revision 3, which serves until it is ready (at most 1m30s)\n"
        "deployed/none: deployed\n");
    deploy(spec_of("five"), {.percent = 30});
    EXPECT_EQ(told(),
              "given_up/by_hand: revision 4 is given up: revision 5 was deployed; revision 3 goes on serving\n"
              "takeover/by_hand: revision 5 starts beside revision 3, which serves until it is ready (at most 10m); "
              "then it gets 30% of the requests\n"
              "deployed/none: deployed\n");
    orders();
    ready(102);
    EXPECT_TRUE(co_await until([&] { return line().stage == control::RolloutStage::split; }));
    EXPECT_EQ(told(), "split/none: revision 5 is ready and gets 30% of the requests, revision 3 the others\n");
    rollouts_->set_percent(kModel, 60, "");
    EXPECT_EQ(told(), "split/by_hand: revision 5 gets 60% of the requests, revision 3 the others\n");
    rollouts_->set_percent(kModel, 100, "");
    EXPECT_EQ(told(), "took_over/by_hand: revision 5 serves: it was given all requests\n");
    controller_->ended(first);
    EXPECT_TRUE(co_await until([&] { return !known("m@2"); }));
    EXPECT_EQ(told(), "drained/none: nothing waits for revision 3 any more: its replicas end\n");
    const ModelEvent last = controller_->events().since(kModel, 0).back();
    EXPECT_EQ(last.kind, ModelEvent::Kind::stopping) << "what the old one's replicas do is the model's, too";
    EXPECT_EQ(last.replica, base::InstanceId(100));

    deploy(spec_of("six"), {.timeout = base::Millis(1)});
    told();
    EXPECT_TRUE(co_await until([&] { return !line().last_failure.empty(); }));
    const auto failed = controller_->events().since(kModel, told_);
    EXPECT_EQ(told(), "takeover_failed/failure: revision 6 did not become ready in time; revision 5 goes on serving\n");
    EXPECT_TRUE(failed.front().took.has_value());
    EXPECT_EQ(line().candidate, 0U);
  });
}

TEST_F(RolloutsTest, WhatFindsNoRoomBesideTheOldOneReplacesIt) {
  serve(
      [&]() -> Task<void> {
        deploy(spec_of("one"));
        Ticket& first = ask();
        ready(100);
        co_await until_resolved(first);
        controller_->answering(first);
        orders();
        EXPECT_EQ(deploy(spec_of("two")), control::Succession::displaced);
        Ticket& second = ask();
        EXPECT_EQ(outcome(second), "waiting");
        controller_->ended(first);
        EXPECT_TRUE(co_await until([&] { return !known("m"); }));
        EXPECT_EQ(orders(), "stop 100");
        gone(100);
        EXPECT_EQ(orders(), "start 101 m@2");
        ready(101);
        co_await until_resolved(second);
        EXPECT_EQ(outcome(second), "101 cold");
      },
      kModelBytes + kModelBytes / 2);
}

TEST_F(RolloutsTest, RemovingAModelTakesAllOfItsRevisions) {
  serve([&]() -> Task<void> {
    deploy(spec_of("one"));
    deploy(spec_of("two"), {.percent = 50});
    EXPECT_TRUE(store_->delete_rollout(kModel).value_or(false));
    EXPECT_TRUE(rollouts_->remove(kModel));
    EXPECT_FALSE(known("m"));
    EXPECT_FALSE(known("m@2"));
    EXPECT_EQ(rollouts_->find(kModel), nullptr);
    EXPECT_FALSE(rollouts_->remove(kModel));
    EXPECT_EQ(deploy(spec_of("one")), control::Succession::at_once);
    EXPECT_EQ(line().active, 1U);
    co_return;
  });
}

}  // namespace
}  // namespace thaw::controller::test
