// Where new models go while nothing is known of the disks, and how long a replica stays that its model does not need.
#include <gtest/gtest.h>

#include "control/scheduler.h"

namespace thaw::control {
namespace {

using base::Seconds;

constexpr std::uint64_t kGB = 1'000'000'000;

class TwoMachines : public testing::Test {
 protected:
  explicit TwoMachines(bool automatic_idle = false) : scheduler_(policy(automatic_idle)) {}

  static Policy policy(bool automatic_idle) {
    Policy policy;
    policy.automatic_idle = automatic_idle;
    return policy;
  }
  void join(const char* name) {
    wire::NodeHello hello;
    hello.node = base::NodeName(name);
    for (const char* device : {"cuda0", "cuda1"})
      hello.devices.push_back({base::DeviceId(device), spec::DeviceKind::cuda, "", "", 100 * kGB, 100 * kGB});
    scheduler_.node_joined(hello, now_, out_);
  }
  void deploy(const char* name) {
    spec::ModelSpec model;
    model.name = base::ModelName(name);
    model.source.path = std::string("/") + name;
    model.resources.device = spec::DeviceKind::cuda;
    model.resources.device_memory_bytes = 60 * kGB;
    model.scaling.max_replicas = 2;
    model.scaling.target_concurrency = 1;
    scheduler_.model_deployed(model, now_, out_);
  }
  void request(const char* model) {
    scheduler_.request_arrived({base::RequestId(++requests_), base::ModelName(model), base::TenantName("t")}, now_,
                               out_);
  }
  template <typename A>
  std::vector<A> take() {
    std::vector<A> found;
    for (const Action& action : out_) {
      if (const auto* one = std::get_if<A>(&action)) found.push_back(*one);
    }
    out_.clear();
    return found;
  }

  Scheduler scheduler_;
  Actions out_;
  base::TimePoint now_ = base::TimePoint{} + Seconds(1000);
  std::uint64_t requests_ = 0;
};

TEST_F(TwoMachines, NewModelsDoNotAllReadFromOneDisk) {
  join("a");
  join("b");
  for (const char* model : {"first", "one", "two"}) deploy(model);
  out_.clear();
  request("first");
  auto starts = take<Start>();
  ASSERT_EQ(starts.size(), 1U);
  const base::InstanceId first = starts[0].command.instance;
  wire::Phase weights{"weights", {}, Seconds(10)};
  weights.bytes = wire::PhaseBytes{40 * kGB, 0};
  scheduler_.instance_weights({first, weights});
  scheduler_.instance_ready({first, "", {}, wire::Way::start, "", 0, false}, now_, out_);
  scheduler_.request_ended(base::RequestId(1), now_, out_);
  now_ += Seconds(60);
  out_.clear();
  request("one");
  request("two");
  starts = take<Start>();
  ASSERT_EQ(starts.size(), 2U);
  EXPECT_NE(starts[0].node, starts[1].node) << "each has a disk";
}

class SpareReplica : public TwoMachines {
 protected:
  SpareReplica() : TwoMachines(true) {}
  /// Until something is stopped: when that was.
  base::TimePoint next_stop() {
    for (int n = 0; n < 1000 && scheduler_.next_tick() != base::never(); ++n) {
      now_ = std::max(now_, scheduler_.next_tick());
      scheduler_.tick(now_, out_);
      const auto stops = take<Stop>();
      for (const Stop& stop : stops) scheduler_.instance_gone({stop.instance}, now_, out_);
      if (!stops.empty()) return now_;
    }
    return base::never();
  }
};

TEST_F(SpareReplica, LeavesSoonerThanTheLastOne) {
  join("a");
  deploy("m");
  out_.clear();
  request("m");
  request("m");
  const auto starts = take<Start>();
  ASSERT_EQ(starts.size(), 2U);
  now_ += Seconds(8);
  for (const Start& start : starts)
    scheduler_.instance_ready({start.command.instance, "", {}, wire::Way::start, "", 0, false}, now_, out_);
  now_ += Seconds(1);
  for (std::uint64_t r = 1; r <= 2; ++r) scheduler_.request_ended(base::RequestId(r), now_, out_);
  out_.clear();
  const base::TimePoint idle = now_;
  // A start of 8 s: a break-even of 8 s and half of that again for who waits.
  EXPECT_EQ(next_stop(), idle + base::Millis(1500));
  EXPECT_EQ(next_stop(), idle + Seconds(12));
}

}  // namespace
}  // namespace thaw::control
