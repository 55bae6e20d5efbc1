// In a fleet that is too large to look at every device, what is chosen is what would have been chosen otherwise, or nearly as good.
#include <gtest/gtest.h>

#include <map>

#include "control/scheduler.h"

namespace thaw::control::test {

namespace {

constexpr std::uint64_t kMiB = 1ULL << 20;
constexpr unsigned kDevicesOfNode = 8;

class Fleet {
 public:
  explicit Fleet(unsigned nodes, Policy policy = {}) : scheduler_(policy) {
    for (unsigned n = 0; n < nodes; ++n) {
      wire::NodeHello hello;
      hello.node = base::NodeName("n" + std::to_string(n));
      for (unsigned d = 0; d < kDevicesOfNode; ++d)
        hello.devices.push_back({base::DeviceId("cuda" + std::to_string(d)), spec::DeviceKind::cuda, "", "", 100 * kMiB, 100 * kMiB});
      scheduler_.node_joined(hello, now_, actions_);
    }
  }

  void deploy(const std::string& name, std::uint64_t bytes, std::uint32_t devices = 1) {
    spec::ModelSpec spec;
    spec.name = base::ModelName(name);
    spec.source.path = "/" + name;
    spec.resources.device = spec::DeviceKind::cuda;
    spec.resources.devices = devices;
    spec.resources.device_memory_bytes = bytes * devices;
    scheduler_.model_deployed(spec, now_, actions_);
  }
  /// Asks once, starts what has to be, and answers. Where it ran; empty: it was not started.
  std::string serve(const std::string& name, base::Duration takes = base::Seconds(1)) {
    const std::string where = ask(name);
    for (const Start& start : starts_) become_ready(start.command.instance, takes);
    finish();
    return where;
  }
  std::string ask(const std::string& name) {
    now_ += base::Millis(10);
    scheduler_.request_arrived({base::RequestId(++request_), base::ModelName(name), base::TenantName("t")}, now_, actions_);
    return take();
  }
  void become_ready(base::InstanceId id, base::Duration takes) {
    now_ += takes;
    scheduler_.instance_ready({id, "", {}, wire::Way::start, "", 0, false}, now_, actions_);
    take();
  }
  void finish() {
    now_ += base::Millis(10);
    scheduler_.request_ended(base::RequestId(request_), now_, actions_);
    take();
  }
  void wait(base::Duration time) {
    const base::TimePoint until = now_ + time;
    while (scheduler_.next_tick() <= until) {
      now_ = std::max(now_, scheduler_.next_tick());
      scheduler_.tick(now_, actions_);
      take();
    }
    now_ = until;
  }
  [[nodiscard]] std::vector<Stop> stops() const { return stops_; }
  [[nodiscard]] std::vector<Start> starts() const { return starts_; }
  void gone(base::InstanceId id) {
    scheduler_.instance_gone({id}, now_, actions_);
    take();
  }

 private:
  std::string take() {
    std::string where;
    starts_.clear();
    stops_.clear();
    for (const Action& action : actions_) {
      if (const auto* start = std::get_if<Start>(&action)) {
        starts_.push_back(*start);
        where = start->node.str() + "/" + start->command.device.str();
      }
      if (const auto* stop = std::get_if<Stop>(&action)) stops_.push_back(*stop);
    }
    actions_.clear();
    return where;
  }

  Scheduler scheduler_;
  Actions actions_;
  std::vector<Start> starts_;
  std::vector<Stop> stops_;
  base::TimePoint now_ = base::TimePoint{} + base::Seconds(1000);
  std::uint64_t request_ = 0;
};

constexpr unsigned kNodes = 100;  // 800 devices: more than are looked at

}  // namespace

TEST(Shortlist, finds_the_one_device_with_room) {
  Fleet fleet(kNodes);
  for (unsigned n = 0; n < kNodes * kDevicesOfNode - 1; ++n) {
    fleet.deploy("busy" + std::to_string(n), 70 * kMiB);
    ASSERT_NE(fleet.ask("busy" + std::to_string(n)), "");
    fleet.become_ready(base::InstanceId(n + 1), base::Millis(1));
  }
  fleet.deploy("large", 90 * kMiB);
  EXPECT_NE(fleet.serve("large"), "");
}

TEST(Shortlist, takes_the_place_of_what_is_worth_least) {
  Fleet fleet(kNodes);
  std::string rare;
  for (unsigned n = 0; n < kNodes * kDevicesOfNode; ++n) {
    const std::string name = "m" + std::to_string(n);
    fleet.deploy(name, 70 * kMiB);
    const std::string where = fleet.serve(name, base::Millis(5));
    ASSERT_NE(where, "");
    if (n == 333) rare = where;
    else fleet.serve(name), fleet.serve(name);  // the others are asked for three times
  }
  fleet.wait(base::Seconds(10));
  fleet.deploy("new", 70 * kMiB);
  fleet.ask("new");
  ASSERT_EQ(fleet.stops().size(), 1U);
  EXPECT_EQ(fleet.stops().front().instance, base::InstanceId(334));
  fleet.gone(base::InstanceId(334));
  ASSERT_EQ(fleet.starts().size(), 1U);
  EXPECT_EQ(fleet.starts().front().node.str() + "/" + fleet.starts().front().command.device.str(), rare);
}

/// Of many nodes with a device or two that are free, the one with three.
TEST(Shortlist, a_gang_finds_the_one_node_with_room) {
  Fleet fleet(kNodes);
  std::map<std::string, std::vector<base::InstanceId>> on_node;
  for (unsigned n = 0; n < kNodes * kDevicesOfNode; ++n) {
    const std::string name = "busy" + std::to_string(n);
    fleet.deploy(name, 70 * kMiB);
    const std::string where = fleet.ask(name);
    ASSERT_NE(where, "");
    on_node[where.substr(0, where.find('/'))].push_back(base::InstanceId(n + 1));
    fleet.become_ready(base::InstanceId(n + 1), base::Millis(1));  // and its request never ends
  }
  for (unsigned n = 0; n < kNodes; ++n) {
    const std::vector<base::InstanceId>& here = on_node.at("n" + std::to_string(n));
    const unsigned leave = n == 57 ? 3 : n % 3;
    for (unsigned i = 0; i < leave; ++i) fleet.gone(here[i]);
  }
  fleet.deploy("gang", 70 * kMiB, 3);
  EXPECT_EQ(fleet.ask("gang").substr(0, 4), "n57/");
  ASSERT_EQ(fleet.starts().size(), 1U);
  EXPECT_EQ(fleet.starts().front().command.devices.size(), 3U);
  fleet.deploy("late", 70 * kMiB, 3);
  EXPECT_EQ(fleet.ask("late"), "");   // it waits ...
  fleet.gone(on_node.at("n32").back());
  EXPECT_EQ(fleet.starts().size(), 1U);  // ... for the third of a node that has two already (32 % 3)
}

TEST(Shortlist, a_gang_makes_the_idle_of_one_node_leave) {
  Fleet fleet(kNodes);
  for (unsigned n = 0; n < kNodes * kDevicesOfNode; ++n) {
    const std::string name = "m" + std::to_string(n);
    fleet.deploy(name, 70 * kMiB);
    ASSERT_NE(fleet.serve(name, base::Millis(5)), "");
  }
  fleet.wait(base::Seconds(10));
  fleet.deploy("gang", 90 * kMiB, 4);
  fleet.ask("gang");
  const std::vector<Stop> leaving = fleet.stops();
  ASSERT_EQ(leaving.size(), 4U);
  for (const Stop& stop : leaving) {
    EXPECT_EQ(stop.node, leaving.front().node);
    EXPECT_TRUE(fleet.starts().empty());
    fleet.gone(stop.instance);
  }
  ASSERT_EQ(fleet.starts().size(), 1U);
  EXPECT_EQ(fleet.starts().front().command.devices.size(), 4U);
}

TEST(Shortlist, whoever_waits_gets_room_as_it_comes_in_the_order_of_waiting) {
  Fleet fleet(kNodes);
  for (unsigned n = 0; n < kNodes * kDevicesOfNode; ++n) {
    const std::string name = "m" + std::to_string(n);
    fleet.deploy(name, 70 * kMiB);
    fleet.ask(name);
    fleet.become_ready(base::InstanceId(n + 1), base::Millis(1));  // and its request never ends
  }
  fleet.deploy("first", 60 * kMiB);
  fleet.deploy("second", 60 * kMiB);
  EXPECT_EQ(fleet.ask("first"), "");
  EXPECT_EQ(fleet.ask("second"), "");
  fleet.gone(base::InstanceId(500));
  ASSERT_EQ(fleet.starts().size(), 1U);
  EXPECT_EQ(fleet.starts().front().command.model.name.str(), "first");
  fleet.gone(base::InstanceId(7));
  ASSERT_EQ(fleet.starts().size(), 1U);
  EXPECT_EQ(fleet.starts().front().command.model.name.str(), "second");
}

}  // namespace thaw::control::test
