#include "controller/controller.h"

#include "harness.h"

namespace thaw::controller::test {
namespace {

using base::Millis;
using base::ModelName;
using control::RequestFailure;
using net::Task;
using Wake = Ticket::Wake;

/// A request that waits as the relay does.
Task<void> wait_for(Ticket& ticket, base::TimePoint until, std::optional<Wake>& woken) { woken = co_await ticket.wait(until); }

TEST_F(ControllerTest, AColdRequestStartsAReplicaAndGetsIt) {
  play([&]() -> Task<void> {
    controller_->deploy(entry("m"));
    EXPECT_EQ(orders(), "") << "deployed is asleep";
    Ticket& ticket = arrive("m");
    EXPECT_EQ(outcome(ticket), "waiting");
    EXPECT_EQ(sent_.size(), 1U);
    const auto& start = std::get<wire::StartInstance>(sent_.at(0));
    EXPECT_EQ(start.model.source.path, "/models/m.gguf");
    EXPECT_EQ(start.device.str(), "cpu0");
    EXPECT_EQ(start.deadline, start.model.start_deadline);
    const std::uint64_t instance = start.instance.value();
    EXPECT_GT(instance, 0U);

    std::optional<Wake> woken;
    net::spawn(wait_for(ticket, base::never(), woken));
    EXPECT_FALSE(woken);
    ready(instance);
    co_await pause();
    EXPECT_EQ(woken, Wake::resolved);
    EXPECT_EQ(outcome(ticket), std::to_string(instance) + " cold");
    EXPECT_EQ(ticket.grant()->replica->model().str(), "m");
    EXPECT_EQ(ticket.grant()->replica->phases().size(), 1U);
    EXPECT_GE(ticket.grant()->replica->ready_at(), ticket.grant()->replica->ordered_at());
    EXPECT_GE(ticket.grant()->queued, base::Duration::zero());
    controller_->answering(ticket);
    controller_->ended(ticket);
    EXPECT_EQ(controller_->scheduler().requests_in_flight(), 0U);
  });
}

TEST_F(ControllerTest, WeightsArePartOfTheTimelineWheneverTheyCome) {
  play([&]() -> Task<void> {
    const auto weights = [&](std::uint64_t instance, std::uint64_t bytes) {
      controller_->node_event(
          wire::InstanceWeights{base::InstanceId(instance), {"weights", Millis(1), Millis(500), wire::PhaseBytes{bytes, 10}}});
    };
    controller_->deploy(entry("early"));
    controller_->deploy(entry("late"));
    Ticket& early = arrive("early");
    Ticket& late = arrive("late");
    EXPECT_EQ(orders(), "start 100 early, start 101 late");
    weights(100, 1'000);
    ready(100);
    ready(101);
    weights(101, 2'000);
    weights(4711, 1);  // of nobody that is known any more
    const auto names_of = [](const Ticket& ticket) {
      std::string names;
      for (const wire::Phase& phase : ticket.grant()->replica->phases())
        names += phase.name + (phase.bytes ? " " + std::to_string(phase.bytes->read) : "") + ", ";
      return names;
    };
    EXPECT_EQ(names_of(early), "weights 1000, load, ");
    EXPECT_EQ(names_of(late), "load, weights 2000, ");
    const std::string metrics = metrics_.scrape({});
    EXPECT_NE(metrics.find("thaw_cold_start_phase_seconds_count{phase=\"weights\"} 2\n"), std::string::npos) << metrics;
    co_return;
  });
}

TEST_F(ControllerTest, RequestsForOneColdModelShareItsStart) {
  play([&]() -> Task<void> {
    controller_->deploy(entry("m", 4));
    std::vector<Ticket*> tickets;
    for (int i = 0; i < 4; ++i) tickets.push_back(&arrive("m"));
    EXPECT_EQ(orders(), "start 100 m");
    ready(100);
    for (Ticket* ticket : tickets) EXPECT_EQ(outcome(*ticket), "100 cold");
    controller_->ended(*tickets[0]);
    Ticket& later = arrive("m");
    EXPECT_EQ(outcome(later), "100 warm") << "in place, without a turn of the loop";
    EXPECT_EQ(orders(), "");
    co_return;
  });
}

TEST_F(ControllerTest, AClientThatLeavesWhileItWaitsIsForgotten) {
  play([&]() -> Task<void> {
    controller_->deploy(entry("m"));
    {
      Ticket ticket(*loop_, base::RequestId(77));
      controller_->arrived(ticket, ModelName("m"), base::TenantName("default"));
      std::optional<Wake> woken;
      net::spawn(wait_for(ticket, base::never(), woken));
      ticket.cancel();
      co_await pause();
      EXPECT_EQ(woken, Wake::cancelled);
      EXPECT_EQ(controller_->waiting(), 1U);
      controller_->ended(ticket);
    }
    EXPECT_EQ(controller_->waiting(), 0U);
    ready(100);  // nobody is there to take it
    EXPECT_EQ(controller_->scheduler().requests_in_flight(), 0U);
    Ticket& next = arrive("m");
    EXPECT_EQ(outcome(next), "100 warm");
  });
}

TEST_F(ControllerTest, AWaitEndsAtItsTime) {
  play([&]() -> Task<void> {
    controller_->deploy(entry("m"));
    Ticket& ticket = arrive("m");
    EXPECT_EQ(co_await ticket.wait(net::Loop::clock() + Millis(5)), Wake::timed_out);
    EXPECT_EQ(outcome(ticket), "waiting");
    ready(100);
    EXPECT_EQ(co_await until_resolved(ticket), Wake::resolved) << "it can wait again";
    EXPECT_EQ(outcome(ticket), "100 cold");
    controller_->ended(ticket);
  });
}

TEST_F(ControllerTest, AFullQueueRefuses) {
  play([&]() -> Task<void> {
    ModelEntry model = entry("m");
    model.spec.scaling.queue.max_length = 2;
    controller_->deploy(std::move(model));
    Ticket& first = arrive("m");
    Ticket& second = arrive("m");
    Ticket& third = arrive("m");
    EXPECT_EQ(outcome(first), "waiting");
    EXPECT_EQ(outcome(second), "waiting");
    EXPECT_EQ(outcome(third), "refused: queue_full");
    EXPECT_EQ(controller_->waiting(), 2U);
    EXPECT_NE(metrics_.scrape({}).find("thaw_refusals_total{cause=\"queue_full\"} 1"), std::string::npos);
    controller_->ended(first);
    controller_->ended(second);
    co_return;
  });
}

// Nothing else happens meanwhile: the controller's own timer must ring.
TEST_F(ControllerTest, ARequestThatWaitedTooLongIsRefused) {
  play([&]() -> Task<void> {
    ModelEntry model = entry("m");
    model.spec.scaling.queue.timeout = Millis(20);
    controller_->deploy(std::move(model));
    Ticket& ticket = arrive("m");
    EXPECT_EQ(co_await until_resolved(ticket), Wake::resolved);
    EXPECT_EQ(outcome(ticket), "refused: queue_timeout");
    EXPECT_EQ(controller_->waiting(), 0U);
  });
}

TEST_F(ControllerTest, AnIdleReplicaIsStopped) {
  play([&]() -> Task<void> {
    ModelEntry model = entry("m");
    model.spec.scaling.idle_timeout = Millis(10);
    controller_->deploy(std::move(model));
    Ticket& ticket = arrive("m");
    EXPECT_EQ(orders(), "start 100 m");
    ready(100);
    EXPECT_EQ(outcome(ticket), "100 cold");
    controller_->ended(ticket);
    EXPECT_TRUE(co_await until([&] { return ordered(); }));
    EXPECT_EQ(std::get<wire::StopInstance>(sent_.at(0)).grace, Millis(1234));
    EXPECT_EQ(orders(), "stop 100");
    gone(100);
    EXPECT_TRUE(controller_->scheduler().instances().empty());
  });
}

TEST_F(ControllerTest, AReplicaThatFailsBeforeTheFirstByteIsReplaced) {
  play([&]() -> Task<void> {
    controller_->deploy(entry("m"));
    Ticket& ticket = arrive("m");
    EXPECT_EQ(orders(), "start 100 m");
    ready(100);
    EXPECT_EQ(outcome(ticket), "100 cold");
    controller_->failed(ticket, RequestFailure::connect);
    EXPECT_EQ(outcome(ticket), "waiting") << "the ticket is open again";
    EXPECT_EQ(orders().substr(0, 8), "stop 100") << "a suspect gets no more requests";
    gone(100);
    EXPECT_TRUE(co_await until([&] { return controller_->scheduler().instances().size() == 1; }));
    EXPECT_EQ(orders(), "start 101 m");
    ready(101);
    EXPECT_EQ(co_await until_resolved(ticket), Wake::resolved);
    EXPECT_EQ(outcome(ticket), "101 cold");
    controller_->answering(ticket);
    controller_->ended(ticket);
    EXPECT_EQ(controller_->waiting(), 0U);
  });
}

TEST_F(ControllerTest, ARequestIsNotRetriedForEver) {
  policy_.max_attempts = 2;
  play([&]() -> Task<void> {
    controller_->deploy(entry("m"));
    Ticket& ticket = arrive("m");
    for (std::uint64_t instance : {100U, 101U}) {
      EXPECT_TRUE(co_await until([&] { return ordered(); }));
      EXPECT_EQ(orders(), "start " + std::to_string(instance) + " m");
      ready(instance);
      EXPECT_EQ(outcome(ticket), std::to_string(instance) + " cold");
      crash(instance);
      controller_->failed(ticket, RequestFailure::connect);
    }
    EXPECT_EQ(outcome(ticket), "refused: replica_failed");
    EXPECT_EQ(controller_->waiting(), 0U);
  });
}

// The relay tells the client by an error event and is done with the ticket.
TEST_F(ControllerTest, AnAnswerThatBreaksOffLeavesNothingBehind) {
  play([&]() -> Task<void> {
    controller_->deploy(entry("m"));
    {
      Ticket ticket(*loop_, base::RequestId(77));
      controller_->arrived(ticket, ModelName("m"), base::TenantName("default"));
      ready(100);
      EXPECT_EQ(outcome(ticket), "100 cold");
      controller_->answering(ticket);
      controller_->failed(ticket, RequestFailure::cut);
      EXPECT_EQ(outcome(ticket), "waiting");
    }
    EXPECT_EQ(controller_->waiting(), 0U) << "nobody waits on a ticket that is gone";
    EXPECT_EQ(controller_->scheduler().requests_in_flight(), 0U);
    co_return;
  });
}

// A retried request runs alone until it answers; those that wait meanwhile must not wait for its end.
TEST_F(ControllerTest, ARetriedRequestThatAnswersLetsOthersIn) {
  play([&]() -> Task<void> {
    controller_->deploy(entry("m", 2));
    Ticket& retried = arrive("m");
    ready(100);
    crash(100);
    controller_->failed(retried, RequestFailure::connect);
    EXPECT_TRUE(co_await until([&] { return controller_->scheduler().instances().size() == 1; }));
    Ticket& bystander = arrive("m");
    ready(101);
    EXPECT_EQ(outcome(retried), "101 cold");
    EXPECT_EQ(outcome(bystander), "waiting");
    controller_->answering(retried);
    EXPECT_EQ(co_await until_resolved(bystander), Wake::resolved);
    EXPECT_EQ(outcome(bystander), "101 cold");
    controller_->ended(bystander);
    controller_->ended(retried);
  });
}

TEST_F(ControllerTest, StartsThatFailAreTriedAgainThenSaid) {
  play([&]() -> Task<void> {
    controller_->deploy(entry("m"));
    Ticket& ticket = arrive("m");
    for (std::uint64_t instance = 100; instance < 103; ++instance) {
      EXPECT_TRUE(co_await until([&] { return ordered(); }));
      EXPECT_EQ(orders(), "start " + std::to_string(instance) + " m");
      EXPECT_EQ(outcome(ticket), "waiting");
      crash(instance, wire::DownReason::start_failed);
    }
    EXPECT_EQ(outcome(ticket), "refused: start_failed");
    EXPECT_NE(ticket.refusal()->message.find("exit status 1"), std::string::npos) << ticket.refusal()->message;
    EXPECT_NE(metrics_.scrape({}).find("thaw_instance_failures_total{model=\"m\",reason=\"start_failed\"} 3"), std::string::npos);
  });
}

TEST_F(ControllerTest, ACrashedReplicaIsNotUsedAgain) {
  play([&]() -> Task<void> {
    controller_->deploy(entry("m", 2));
    Ticket& first = arrive("m");
    ready(100);
    const std::shared_ptr<Replica> replica = first.grant()->replica;
    down(100, wire::DownReason::crashed);
    Ticket& second = arrive("m");
    EXPECT_EQ(outcome(second), "waiting");
    gone(100);
    EXPECT_EQ(replica->instance().value(), 100U) << "whoever still uses it keeps it";
    EXPECT_TRUE(co_await until([&] { return sent_.size() == 2; }));
    EXPECT_EQ(orders(), "start 100 m, start 101 m");
    ready(101);
    EXPECT_EQ(outcome(second), "101 cold");
    controller_->ended(second);
    controller_->failed(first, RequestFailure::connect);
    EXPECT_EQ(co_await until_resolved(first), Wake::resolved);
    EXPECT_EQ(outcome(first).substr(0, 3), "101");
    controller_->ended(first);
  });
}

TEST_F(ControllerTest, EventsOfInstancesThatAreNotKnownChangeNothing) {
  play([&]() -> Task<void> {
    controller_->deploy(entry("m"));
    ready(7);
    down(7, wire::DownReason::crashed);
    gone(7);
    EXPECT_TRUE(controller_->scheduler().instances().empty());
    EXPECT_EQ(outcome(arrive("m")), "waiting");
    co_return;
  });
}

TEST_F(ControllerTest, ARemovedModelRefusesWhatWaits) {
  play([&]() -> Task<void> {
    controller_->deploy(entry("m"));
    Ticket& waits = arrive("m");
    EXPECT_EQ(orders(), "start 100 m");
    EXPECT_TRUE(controller_->remove(ModelName("m")));
    EXPECT_EQ(outcome(waits), "refused: model_removed");
    EXPECT_EQ(orders(), "stop 100");
    EXPECT_EQ(controller_->share("m"), nullptr);
    EXPECT_EQ(controller_->find(ModelName("m")), nullptr);
    EXPECT_FALSE(controller_->remove(ModelName("m")));
    gone(100);
    EXPECT_EQ(outcome(arrive("m")), "refused: model_removed");
    co_return;
  });
}

TEST_F(ControllerTest, AModelCanBeDeployedAgainWhileItIsUsed) {
  play([&]() -> Task<void> {
    ModelEntry first = entry("m");
    first.usage_ref = 1;
    controller_->deploy(std::move(first));
    const std::shared_ptr<ModelEntry> in_use = controller_->share("m");
    EXPECT_NE(in_use->probe, nullptr);
    ModelEntry second = entry("m");
    second.usage_ref = 2;
    controller_->deploy(std::move(second));
    EXPECT_EQ(controller_->share("m")->usage_ref, 2U);
    EXPECT_EQ(controller_->models().size(), 1U);
    EXPECT_EQ(in_use->usage_ref, 1U) << "a request keeps what it began with";
    EXPECT_EQ(in_use->probe, controller_->share("m")->probe) << "counters go on";
    co_return;
  });
}

TEST_F(ControllerTest, StopEndsReplicasWhenTheyAreIdleAndKillAtOnce) {
  play([&]() -> Task<void> {
    controller_->deploy(entry("m"));
    Ticket& ticket = arrive("m");
    EXPECT_EQ(orders(), "start 100 m");
    ready(100);
    controller_->stop(ModelName("m"), false);
    EXPECT_EQ(orders(), "") << "its request goes on";
    controller_->ended(ticket);
    EXPECT_EQ(orders(), "stop 100");
    gone(100);
    Ticket& next = arrive("m");
    EXPECT_EQ(orders(), "start 101 m");
    ready(101);
    controller_->stop(ModelName("m"), true);
    EXPECT_EQ(orders(), "stop 101");
    controller_->failed(next, RequestFailure::connect);
    EXPECT_EQ(outcome(next), "refused: replica_failed") << "stopped by an operator: not tried again";
    co_return;
  });
}

TEST_F(ControllerTest, DrainingRefusesWhatWaitsAndWhatArrives) {
  play([&]() -> Task<void> {
    controller_->deploy(entry("m"));
    Ticket& runs = arrive("m");
    ready(100);
    Ticket& waits = arrive("m");
    controller_->drain();
    EXPECT_EQ(outcome(waits), "refused: draining");
    EXPECT_EQ(outcome(arrive("m")), "refused: draining");
    EXPECT_EQ(outcome(runs), "100 cold");
    EXPECT_EQ(controller_->scheduler().requests_in_flight(), 1U);
    controller_->ended(runs);
    co_return;
  });
}

TEST_F(ControllerTest, SaysWhatCanNeverRun) {
  play(
      [&]() -> Task<void> {
        spec::ModelSpec spec = entry("m").spec;
        EXPECT_TRUE(controller_->can_ever_run(spec).ok());
        spec.resources.device_memory_bytes = 1ULL << 40;
        EXPECT_FALSE(controller_->can_ever_run(spec).ok());
        co_return;
      },
      kModelBytes);
}

TEST_F(ControllerTest, AnIdleModelMakesRoomForAnother) {
  play(
      [&]() -> Task<void> {
        controller_->deploy(entry("a"));
        controller_->deploy(entry("b"));
        Ticket& first = arrive("a");
        EXPECT_EQ(orders(), "start 100 a");
        ready(100);
        controller_->ended(first);
        Ticket& second = arrive("b");
        EXPECT_TRUE(co_await until([&] { return ordered(); }));
        EXPECT_EQ(orders(), "stop 100");
        gone(100);
        EXPECT_EQ(orders(), "start 101 b");
        ready(101);
        EXPECT_EQ(outcome(second), "101 cold");
        controller_->ended(second);
      },
      kModelBytes);
}

}  // namespace
}  // namespace thaw::controller::test
