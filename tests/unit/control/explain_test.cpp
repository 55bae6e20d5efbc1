// What would become of a request, in cases whose numbers are known. That it comes about in any case is in property_test.cpp.
#include "control/explain.h"
#include "control/priority.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "control/scheduler.h"

namespace thaw::control {
namespace {

class ExplainTest : public testing::Test {
 protected:
  ExplainTest() {
    wire::DeviceInfo cpu;
    cpu.id = base::DeviceId("cpu0");
    cpu.budget_bytes = cpu.total_bytes = 100;
    wire::NodeHello hello;
    hello.node = base::NodeName("n");
    hello.devices = {cpu};
    scheduler_.node_joined(hello, now_, out_);
  }
  void deploy(const std::string& name, std::uint64_t bytes, std::uint32_t queue = 10, std::uint32_t min_replicas = 0) {
    spec::ModelSpec spec;
    spec.name = base::ModelName(name);
    spec.resources.device_memory_bytes = bytes;
    spec.scaling.target_concurrency = 1;
    spec.scaling.queue.max_length = queue;
    spec.scaling.min_replicas = min_replicas;
    scheduler_.model_deployed(spec, now_, out_);
  }
  base::RequestId ask(const std::string& name) {
    const base::RequestId id{++requests_};
    scheduler_.request_arrived({id, base::ModelName(name), base::TenantName("t")}, now_, out_);
    return id;
  }
  void ready(std::uint64_t id) { scheduler_.instance_ready({base::InstanceId(id), "/run/s", {}}, now_, out_); }
  void answer(base::RequestId id, base::Duration first, base::Duration all) {
    now_ += first;
    scheduler_.request_answering(id, now_);
    now_ += all - first;
    scheduler_.request_ended(id, now_, out_);
  }
  [[nodiscard]] Explanation explain(const std::string& name, std::optional<spec::Priority> priority = {}) const {
    return scheduler_.explain(base::ModelName(name), base::TenantName("t"), priority, now_);
  }
  static std::string parts(const Explanation& e) {
    std::string text;
    for (const EstimatedPart& part : e.parts)
      text += (text.empty() ? "" : ", ") + part.name + " " + std::to_string(base::duration_cast<base::Millis>(part.takes).count()) + (part.known ? "" : "?");
    return text;
  }

  Scheduler scheduler_;
  base::TimePoint now_ = base::TimePoint{} + base::Seconds(50);
  Actions out_;
  std::uint64_t requests_ = 0;
};

TEST_F(ExplainTest, WhatWasNeverMeasuredCountsNothingAndIsSaidToBeUnknown) {
  deploy("m", 60);
  const Explanation e = explain("m");
  EXPECT_EQ(e.prospect, Prospect::way_up);
  EXPECT_EQ(e.way, wire::Way::start);
  EXPECT_EQ(e.node.str(), "n");
  EXPECT_EQ(parts(e), "start 0?, first answer 0?");
  EXPECT_TRUE(e.at_least);
  EXPECT_EQ(e.summary, "a replica would start on n/cpu0");
}

TEST_F(ExplainTest, FollowsAReplicaUpAndKnowsWhatItTook) {
  deploy("m", 60);
  const base::RequestId first = ask("m");
  now_ += base::Millis(200);
  Explanation e = explain("m");
  EXPECT_EQ(e.prospect, Prospect::rising);
  EXPECT_EQ(e.queued_before, 1U);
  EXPECT_EQ(e.instance.value(), 1U);
  ready(1);
  e = explain("m");
  EXPECT_EQ(e.prospect, Prospect::slot) << "one at a time";
  EXPECT_EQ(parts(e), "slot 0?, first answer 0?");
  answer(first, base::Millis(30), base::Millis(400));
  e = explain("m");
  EXPECT_EQ(e.prospect, Prospect::dispatched);
  EXPECT_EQ(parts(e), "first answer 30");
  EXPECT_FALSE(e.at_least);
  ask("m");
  EXPECT_EQ(parts(explain("m")), "slot 400, first answer 30");
  ask("m");
  EXPECT_EQ(parts(explain("m")), "slot 800, first answer 30") << "one is before it";
}

TEST_F(ExplainTest, SaysWhoMakesRoomAndWhatThatCosts) {
  deploy("one", 60);
  deploy("two", 60);
  answer(ask("one"), base::Millis(0), base::Millis(0));  // the client left
  now_ += base::Millis(200);
  ready(1);
  const Explanation e = explain("two");
  EXPECT_EQ(e.prospect, Prospect::way_up);
  ASSERT_EQ(e.displaced.size(), 1U);
  EXPECT_EQ(e.displaced[0].model.str(), "one");
  EXPECT_FALSE(e.displaced[0].to_standby);
  EXPECT_EQ(parts(e), "room 0?, start 0?, first answer 0?");
  EXPECT_EQ(e.summary, "a replica would start on n/cpu0; 1 other replica(s) would make room for it");
}

TEST_F(ExplainTest, RefusalsAreThoseThatRequestsGet) {
  deploy("kept", 60, 10, 1);
  deploy("m", 60);
  Explanation e = explain("m");
  EXPECT_EQ(e.prospect, Prospect::refused);
  EXPECT_EQ(e.refusal, "no_capacity");
  out_.clear();
  ask("m");
  ASSERT_EQ(out_.size(), 1U);
  EXPECT_EQ(std::get<Refuse>(out_[0]).message, e.summary);
  EXPECT_EQ(std::get<Refuse>(out_[0]).retry_after, e.retry_after);

  deploy("short", 30, 0);
  ask("short");
  e = explain("short");
  EXPECT_EQ(e.refusal, "queue_full");
  EXPECT_TRUE(e.parts.empty());
  scheduler_.drain(now_, out_);
  EXPECT_EQ(explain("short").refusal, "draining");
}

TEST_F(ExplainTest, AModelThatDoesNotStartWaitsForItsNextTry) {
  deploy("m", 60);
  ask("m");
  scheduler_.instance_down({base::InstanceId(1), wire::DownReason::start_failed, "exit status 1", ""}, now_, out_);
  scheduler_.instance_gone({base::InstanceId(1)}, now_, out_);
  const Explanation e = explain("m");
  EXPECT_EQ(e.prospect, Prospect::back_off);
  EXPECT_NE(e.summary.find("exit status 1"), std::string::npos) << e.summary;
  EXPECT_GT(e.first_token, base::Duration::zero());
}

TEST_F(ExplainTest, APriorityOvertakesAndIsCutToWhatTheTenantMayAskFor) {
  deploy("m", 60);
  const base::RequestId first = ask("m");
  ready(1);
  scheduler_.request_answering(first, now_);
  ask("m");
  EXPECT_EQ(explain("m").priority, spec::Priority::normal);
  EXPECT_EQ(explain("m").queued_before, 1U);
  EXPECT_EQ(explain("m", spec::Priority::low).queued_before, 1U);
  EXPECT_EQ(explain("m", spec::Priority::high).queued_before, 0U);
  now_ += kLevelWaits + base::Millis(1);
  EXPECT_EQ(explain("m", spec::Priority::high).queued_before, 1U) << "it has waited for longer than the level counts";
  TenantPolicy modest;
  modest.tenant = base::TenantName("t");
  modest.max_priority = spec::Priority::normal;
  ASSERT_TRUE(scheduler_.set_tenant(modest, now_, out_).ok());
  EXPECT_EQ(explain("m", spec::Priority::high).priority, spec::Priority::normal);
  EXPECT_EQ(explain("m", spec::Priority::low).priority, spec::Priority::low);
}

TEST_F(ExplainTest, ATenantThatMayNeverHoldAReplicaIsRefused) {
  deploy("m", 60);
  TenantPolicy half;
  half.tenant = base::TenantName("t");
  half.max_devices = 0.5;
  ASSERT_TRUE(scheduler_.set_tenant(half, now_, out_).ok());
  const Explanation e = explain("m");
  EXPECT_EQ(e.refusal, "tenant_quota");
  out_.clear();
  ask("m");
  EXPECT_EQ(std::get<Refuse>(out_.at(0)).message, e.summary);
}

TEST_F(ExplainTest, EveryNameIsItsOwn) {
  std::set<std::string> names;
  for (const Prospect p : {Prospect::dispatched, Prospect::slot, Prospect::rising, Prospect::way_up, Prospect::room, Prospect::back_off, Prospect::refused}) names.insert(to_string(p));
  EXPECT_EQ(names.size(), 7U);
}

}  // namespace
}  // namespace thaw::control
