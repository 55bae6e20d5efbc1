// Standby and images as the controller sees them: orders to a node, its answers, metrics, and whose bytes are in which book.
#include "harness.h"

namespace thaw::controller::test {
namespace {

using base::InstanceId;
using net::Task;

constexpr std::uint64_t kMiB = 1ULL << 20;

class TiersTest : public ControllerTest {
 protected:
  TiersTest() {
    equip_ = [](wire::NodeHello& hello) {
      hello.drivers = {{wire::DriverKind::freezer, spec::DeviceKind::cpu, true, false, ""},
                       {wire::DriverKind::runsc, spec::DeviceKind::cpu, false, true, ""}};
      hello.host_budget_bytes = 1ULL << 30;
      hello.image_budget_bytes = 1ULL << 30;
    };
  }

  static ModelEntry resting(const std::string& name) {
    ModelEntry model = entry(name);
    model.spec.standby.mode = spec::Mode::always;
    model.spec.snapshot.mode = spec::Mode::never;
    return model;
  }
  void up(std::uint64_t instance, wire::Way way = wire::Way::start, const std::string& fell_back = "") {
    wire::InstanceReady event{InstanceId(instance), socket_path_, {{"answer", base::Millis(0), base::Millis(2)}}};
    event.way = way;
    event.fell_back = fell_back;
    event.can_freeze = true;
    controller_->node_event(event);
  }
  void standby(std::uint64_t instance, std::uint64_t device_bytes, std::uint64_t host_bytes = 0) {
    controller_->node_event(wire::InstanceStandby{InstanceId(instance), wire::DriverKind::freezer, host_bytes, device_bytes, {}});
  }
  void frozen_by_hand(const std::string& model, std::uint64_t instance, std::uint64_t device_bytes, std::uint64_t host_bytes = 0) {
    EXPECT_TRUE(controller_->freeze(base::ModelName(model)).ok());
    EXPECT_EQ(orders(), "freeze " + std::to_string(instance));
    standby(instance, device_bytes, host_bytes);
  }
  /// A replica of the model that has served one request.
  void served(const std::string& model, std::uint64_t instance) {
    Ticket& ticket = arrive(model);
    EXPECT_EQ(orders(), "start " + std::to_string(instance) + " " + model);
    up(instance);
    controller_->ended(ticket);
  }
  bool scraped(const std::string& line) { return ("\n" + metrics_.scrape({})).find("\n" + line + "\n") != std::string::npos; }
  [[nodiscard]] control::HostCacheView cache() { return controller_->cache()->book().view(); }
  static std::string transitions(const std::string& from, const std::string& to, const std::string& result, int count) {
    return "thaw_transitions_total{from=\"" + from + "\",result=\"" + result + "\",to=\"" + to + "\"} " + std::to_string(count);
  }
};

TEST_F(TiersTest, ARequestWakesAReplicaAndItsTimelineSaysSo) {
  play([&]() -> Task<void> {
    controller_->deploy(resting("m"));
    served("m", 100);
    frozen_by_hand("m", 100, kMiB);
    EXPECT_EQ(controller_->scheduler().instances().at(0).state, control::InstanceState::standby);

    Ticket& ticket = arrive("m");
    EXPECT_EQ(orders(), "wake 100");
    EXPECT_EQ(outcome(ticket), "waiting");
    up(100, wire::Way::wake);
    EXPECT_EQ(outcome(ticket), "100 cold");
    const Replica& replica = *ticket.grant()->replica;
    EXPECT_EQ(replica.way(), wire::Way::wake);
    EXPECT_EQ(replica.why().substr(0, 46), "first request; wakes in an unknown time, start") << replica.why();
    EXPECT_EQ(replica.phases().size(), 1U) << "of the wake alone";
    EXPECT_EQ(replica.phases().at(0).name, "answer");
    controller_->ended(ticket);
    EXPECT_TRUE(scraped(transitions("nothing", "ready", "ok", 1)));
    EXPECT_TRUE(scraped(transitions("ready", "standby", "ok", 1)));
    EXPECT_TRUE(scraped(transitions("standby", "ready", "ok", 1)));
    EXPECT_TRUE(scraped("thaw_transition_seconds_count{transition=\"wake\"} 1"));
    EXPECT_TRUE(scraped("thaw_cold_start_seconds_count{model=\"m\"} 1")) << "a wake is none";
    co_return;
  });
}

TEST_F(TiersTest, AFailedWakeIsFollowedByAStartAndCounted) {
  play([&]() -> Task<void> {
    controller_->deploy(resting("m"));
    served("m", 100);
    frozen_by_hand("m", 100, kMiB);
    Ticket& ticket = arrive("m");
    EXPECT_EQ(orders(), "wake 100");
    down(100, wire::DownReason::wake_failed, "it does not answer");
    EXPECT_EQ(orders(), "start 101 m");
    gone(100);
    up(101);
    EXPECT_EQ(outcome(ticket), "101 cold");
    EXPECT_EQ(ticket.grant()->replica->way(), wire::Way::start);
    EXPECT_EQ(ticket.grant()->replica->why(), "first request; its replica in standby failed: it does not answer: last words");
    controller_->ended(ticket);
    EXPECT_TRUE(scraped(transitions("standby", "ready", "wake_failed", 1)));
    EXPECT_TRUE(scraped("thaw_instance_failures_total{model=\"m\",reason=\"wake_failed\"} 1"));
    EXPECT_EQ(controller_->scheduler().models().at(0).wake_failures, 1U);
    EXPECT_EQ(controller_->scheduler().models().at(0).last_failure, "it does not answer: last words");
    co_return;
  });
}

TEST_F(TiersTest, ADyingFreezeIsCountedOnce) {
  play([&]() -> Task<void> {
    controller_->deploy(resting("m"));
    served("m", 100);
    EXPECT_TRUE(controller_->freeze(base::ModelName("m")).ok());
    controller_->node_event(wire::FreezeFailed{InstanceId(100), "it did not survive", false});
    down(100, wire::DownReason::freeze_failed);
    gone(100);
    EXPECT_TRUE(scraped(transitions("ready", "standby", "failed", 1)));
    EXPECT_EQ(metrics_.scrape({}).find("result=\"freeze_failed\",to=\"standby\""), std::string::npos);
    EXPECT_TRUE(controller_->scheduler().instances().empty());
    EXPECT_EQ(controller_->scheduler().devices().at(0).reserved_bytes, 0U);
    co_return;
  });
}

TEST_F(TiersTest, OneThatCannotBeFrozenServesOn) {
  play([&]() -> Task<void> {
    controller_->deploy(resting("m"));
    served("m", 100);
    EXPECT_TRUE(controller_->freeze(base::ModelName("m")).ok());
    EXPECT_EQ(orders(), "freeze 100");
    Ticket& ticket = arrive("m");
    EXPECT_EQ(outcome(ticket), "waiting");
    controller_->node_event(wire::FreezeFailed{InstanceId(100), "busy", true});
    EXPECT_EQ(outcome(ticket), "100 cold") << "it had to wait";
    controller_->ended(ticket);
    EXPECT_EQ(orders(), "");
    co_return;
  });
}

TEST_F(TiersTest, AWakeThatIsBrokenOffIsCountedAsStopped) {
  play([&]() -> Task<void> {
    controller_->deploy(resting("m"));
    served("m", 100);
    frozen_by_hand("m", 100, kMiB);
    EXPECT_TRUE(*controller_->wake(base::ModelName("m")));
    EXPECT_EQ(orders(), "wake 100");
    controller_->stop(base::ModelName("m"), false);
    EXPECT_EQ(orders(), "stop 100");
    up(100, wire::Way::wake);  // crossed the order
    gone(100);
    EXPECT_TRUE(scraped(transitions("standby", "ready", "stopped", 1)));
    EXPECT_EQ(metrics_.scrape({}).find("from=\"standby\",result=\"ok\""), std::string::npos);
    co_return;
  });
}

TEST_F(TiersTest, AChangedFileEndsAFrozenReplicaAndItsImages) {
  play([&]() -> Task<void> {
    controller_->deploy(resting("m"));
    served("m", 100);
    frozen_by_hand("m", 100, kMiB);
    auto image = controller_->snapshot(base::ModelName("m"));
    EXPECT_TRUE(image.ok());
    EXPECT_EQ(orders(), "snapshot 101 m-101");
    controller_->node_event(wire::SnapshotTaken{InstanceId(101), {*image, base::ModelName("m"), wire::DriverKind::runsc, kMiB, kMiB, 1}, {}});
    gone(101);
    EXPECT_TRUE(scraped(transitions("nothing", "image", "ok", 1)));
    controller_->node_event(wire::FilesChanged{InstanceId(100), {"/models/m.gguf", 1, 2, 3}, "its size changed", false});
    EXPECT_EQ(orders(), "drop m-101, stop 100");
    controller_->node_event(wire::ImageGone{*image, kMiB, "dropped"});
    gone(100);
    EXPECT_TRUE(controller_->scheduler().images().empty());
    EXPECT_EQ(controller_->scheduler().nodes().at(0).image_reserved_bytes, 0U);
    EXPECT_TRUE(scraped("thaw_images_gone_total 1"));
    co_return;
  });
}

TEST_F(TiersTest, AFileThatAStartFoundChangedTakesImagesOfTheOldOneAlong) {
  equip_ = [base = equip_](wire::NodeHello& hello) {
    base(hello);
    hello.images = {{base::ImageId("old"), base::ModelName("m"), wire::DriverKind::runsc, kMiB, kMiB, 1}};
  };
  play([&]() -> Task<void> {
    controller_->deploy(entry("m"));
    controller_->file_differs(base::ModelName("m"), "another size");
    EXPECT_EQ(orders(), "drop old");
    controller_->file_differs(base::ModelName("m"), "another size");
    controller_->file_differs(base::ModelName("unknown"), "another size");
    EXPECT_EQ(orders(), "") << "once";
    arrive("m");
    EXPECT_EQ(orders(), "start 100 m") << "nobody is restored from what is on its way out";
    co_return;
  });
}

TEST_F(TiersTest, ARestoreThatFellBackSaysWhy) {
  equip_ = [base = equip_](wire::NodeHello& hello) {
    base(hello);
    hello.images = {{base::ImageId("m-7"), base::ModelName("m"), wire::DriverKind::runsc, kMiB, kMiB, 1}};
  };
  play([&]() -> Task<void> {
    controller_->deploy(entry("m"));
    Ticket& ticket = arrive("m");
    EXPECT_EQ(orders(), "start 100 m from m-7");
    up(100, wire::Way::start, "digest of pages.img differs");
    const Replica& replica = *ticket.grant()->replica;
    EXPECT_EQ(replica.way(), wire::Way::start);
    EXPECT_NE(replica.why().find("not restored: digest of pages.img differs"), std::string::npos) << replica.why();
    EXPECT_TRUE(scraped(transitions("image", "ready", "fell_back", 1)));
    controller_->ended(ticket);
    co_return;
  });
}

TEST_F(TiersTest, WhatAReplicaGivesUpInStandbyIsThereForWeights) {
  play(
      [&]() -> Task<void> {
        controller_->deploy(resting("m"));
        cache_orders();
        served("m", 100);
        EXPECT_EQ(cache().budget_bytes, 50 * kMiB) << "what the replica leaves";
        cache_orders();
        frozen_by_hand("m", 100, 10 * kMiB);
        EXPECT_EQ(cache().budget_bytes, 140 * kMiB);
        EXPECT_EQ(cache_orders(), "look /models/m.gguf") << "how much of them is left";
        arrive("m");
        EXPECT_EQ(cache().budget_bytes, 50 * kMiB) << "before it is woken";
        up(100, wire::Way::wake);
        EXPECT_EQ(cache_orders(), "look /models/m.gguf");
        crash(100);
        EXPECT_EQ(cache().budget_bytes, 150 * kMiB);
        co_return;
      },
      150 * kMiB);
}

TEST_F(TiersTest, AGpusReplicaInStandbyTakesHostMemoryFromWeights) {
  equip_ = [](wire::NodeHello& hello) {
    hello.devices.at(0).kind = spec::DeviceKind::cuda;
    hello.drivers = {{wire::DriverKind::cuda, spec::DeviceKind::cuda, true, false, ""}};
    hello.host_budget_bytes = 1ULL << 30;
  };
  play(
      [&]() -> Task<void> {
        ModelEntry model = resting("m");
        model.spec.resources.device = spec::DeviceKind::cuda;
        controller_->deploy(model);
        served("m", 100);
        EXPECT_EQ(cache().budget_bytes, 150 * kMiB) << "a GPU's memory is not the host's";
        EXPECT_TRUE(controller_->freeze(base::ModelName("m")).ok());
        EXPECT_EQ(cache().budget_bytes, 50 * kMiB) << "reserved before it is frozen";
        standby(100, 0, 90 * kMiB);
        EXPECT_EQ(cache().budget_bytes, 60 * kMiB) << "what it turned out to take";
        EXPECT_EQ(controller_->scheduler().nodes().at(0).host_reserved_bytes, 90 * kMiB);
        arrive("m");
        up(100, wire::Way::wake);
        EXPECT_EQ(cache().budget_bytes, 150 * kMiB);
        co_return;
      },
      150 * kMiB);
}

TEST_F(TiersTest, TheReplicaOfASnapshotUsesWeightsToo) {
  play(
      [&]() -> Task<void> {
        controller_->deploy(resting("m"));
        EXPECT_TRUE(controller_->snapshot(base::ModelName("m")).ok());
        EXPECT_EQ(orders(), "snapshot 100 m-100");
        EXPECT_EQ(controller_->cache()->book().entry("/models/m.gguf", loop_->now())->replicas, 1U);
        EXPECT_EQ(cache().budget_bytes, 50 * kMiB);
        controller_->node_event(wire::SnapshotFailed{InstanceId(100), base::ImageId("m-100"), base::ModelName("m"), "no space"});
        gone(100);
        EXPECT_EQ(controller_->cache()->book().entry("/models/m.gguf", loop_->now())->replicas, 0U);
        EXPECT_EQ(cache().budget_bytes, 150 * kMiB);
        EXPECT_TRUE(scraped(transitions("nothing", "image", "failed", 1)));
        EXPECT_EQ(controller_->scheduler().models().at(0).last_snapshot_failure, "no space");
        co_return;
      },
      150 * kMiB);
}

TEST_F(TiersTest, WhatCannotBeDoneByHandSaysWhy) {
  equip_ = nullptr;
  play([&]() -> Task<void> {
    controller_->deploy(resting("m"));
    served("m", 100);
    const auto freeze = controller_->freeze(base::ModelName("m"));
    EXPECT_EQ(freeze.error().kind, base::ErrorKind::conflict);
    EXPECT_EQ(freeze.error().message, "cannot freeze m: no driver for standby works with it on node; `thaw doctor` says why");
    EXPECT_EQ(controller_->freeze(base::ModelName("x")).error().kind, base::ErrorKind::not_found);
    EXPECT_EQ(controller_->wake(base::ModelName("x")).error().kind, base::ErrorKind::not_found);
    EXPECT_EQ(controller_->snapshot(base::ModelName("x")).error().kind, base::ErrorKind::not_found);
    EXPECT_FALSE(*controller_->wake(base::ModelName("m"))) << "it is up";
    EXPECT_EQ(controller_->drop_image(base::ImageId("x")).error().kind, base::ErrorKind::not_found);
    EXPECT_EQ(orders(), "");
    co_return;
  });
}

}  // namespace
}  // namespace thaw::controller::test
