// A model that is asked for at its times is up just before, and down between.
#include <gtest/gtest.h>

#include <algorithm>

#include "control/scheduler.h"

namespace thaw::control {
namespace {

using base::Seconds;

/// One device, one model whose starts take two minutes; the node does at once what it is told, but for those.
class WakeAhead : public testing::Test {
 protected:
  static constexpr base::Duration kStart = Seconds(120), kAnswer = Seconds(10), kPause = Seconds(600);

  WakeAhead() : scheduler_(policy()) {
    wire::NodeHello hello;
    hello.node = base::NodeName("n");
    hello.devices.push_back({base::DeviceId("cuda0"), spec::DeviceKind::cuda, "", "", 100, 100});
    scheduler_.node_joined(hello, now_, out_);
    spec::ModelSpec model;
    model.name = base::ModelName("m");
    model.source.path = "/m";
    model.resources.device = spec::DeviceKind::cuda;
    model.resources.device_memory_bytes = 60;
    model.scaling.idle_timeout = std::chrono::hours(1);
    scheduler_.model_deployed(model, now_, out_);
    carry_out();
  }

  static Policy policy() {
    Policy policy;
    policy.automatic_idle = true;
    return policy;
  }

  /// What happens until then, in order.
  void run_until(base::TimePoint end) {
    for (;;) {
      const base::TimePoint at = std::min(scheduler_.next_tick(), ready_at_);
      if (at > end) break;
      now_ = std::max(now_, at);
      if (ready_at_ <= now_) {
        ready_at_ = base::never();
        scheduler_.instance_ready({starting_, "", {}, wire::Way::start, "", 0, false}, now_, out_);
      } else {
        scheduler_.tick(now_, out_);
      }
      carry_out();
    }
    now_ = end;
  }

  void request() {
    scheduler_.request_arrived({base::RequestId(++requests_), base::ModelName("m"), base::TenantName("t")}, now_, out_);
    carry_out();
    if (!dispatched_) run_until(now_ + kStart);
    ASSERT_TRUE(dispatched_);
    run_until(now_ + kAnswer);
    scheduler_.request_answering(base::RequestId(requests_), now_);
    scheduler_.request_ended(base::RequestId(requests_), now_, out_);
    dispatched_ = false;
    carry_out();
  }

  void carry_out() {
    while (!out_.empty()) {
      Actions actions;
      actions.swap(out_);
      for (const Action& action : actions) {
        if (const auto* start = std::get_if<Start>(&action)) {
          starting_ = start->command.instance;
          why_ = start->why;
          started_at_ = now_;
          ready_at_ = now_ + kStart;
        } else if (const auto* stop = std::get_if<Stop>(&action)) {
          ++stops_;
          scheduler_.instance_gone({stop->instance}, now_, out_);
        } else if (const auto* dispatch = std::get_if<Dispatch>(&action)) {
          dispatched_ = true;
          cold_ = dispatch->cold;
        }
      }
    }
  }

  Scheduler scheduler_;
  Actions out_;
  base::TimePoint now_ = base::TimePoint{} + Seconds(1000), ready_at_ = base::never(), started_at_{};
  base::InstanceId starting_;
  std::string why_;
  std::uint64_t requests_ = 0;
  int stops_ = 0;
  bool dispatched_ = false, cold_ = false;
};

TEST_F(WakeAhead, IsReadyForTheRequestThatIsExpected) {
  for (int n = 0; n < 9; ++n) {
    request();
    EXPECT_TRUE(cold_);
    run_until(now_ + kPause);
  }
  EXPECT_EQ(why_, "a request is expected") << "eight pauses are known";
  EXPECT_LT(started_at_ + kStart, now_);
  request();
  EXPECT_FALSE(cold_);
}

TEST_F(WakeAhead, GoesAgainWhenNoneComesAndIsNotWokenAgain) {
  for (int n = 0; n < 9; ++n) {
    request();
    run_until(now_ + kPause);
  }
  const int stops = stops_;
  run_until(now_ + std::chrono::hours(24));
  EXPECT_EQ(stops_, stops + 1);
  EXPECT_TRUE(scheduler_.instances().empty());
  EXPECT_EQ(scheduler_.next_tick(), base::never()) << "a sleeping model costs nothing";
}

}  // namespace
}  // namespace thaw::control
