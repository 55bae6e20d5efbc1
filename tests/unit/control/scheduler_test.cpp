// What scenario files cannot say: what can never run, views, ids, limits of texts, unknown names.
#include "control/scheduler.h"

#include <gtest/gtest.h>

#include "unit/control/describe.h"

namespace thaw::control {

namespace {

using base::ErrorKind;

wire::DeviceInfo device(const std::string& id, std::uint64_t bytes, spec::DeviceKind kind = spec::DeviceKind::cpu) {
  wire::DeviceInfo info;
  info.id = base::DeviceId(id);
  info.kind = kind;
  info.budget_bytes = info.total_bytes = bytes;
  return info;
}

spec::ModelSpec model(const std::string& name, std::uint64_t bytes, std::uint32_t min_replicas = 0) {
  spec::ModelSpec spec;
  spec.name = base::ModelName(name);
  spec.resources.device_memory_bytes = bytes;
  spec.scaling.min_replicas = min_replicas;
  spec.scaling.max_replicas = std::max(min_replicas, 1U);
  return spec;
}

class SchedulerTest : public testing::Test {
 protected:
  void join(std::vector<wire::DeviceInfo> devices, const std::string& node = "n") {
    scheduler_.node_joined({base::NodeName(node), std::move(devices)}, now_, out_);
  }
  void deploy(const spec::ModelSpec& spec) { scheduler_.model_deployed(spec, now_, out_); }
  void ask(std::uint64_t id, const std::string& name) {
    scheduler_.request_arrived({base::RequestId(id), base::ModelName(name), base::TenantName("t")}, now_, out_);
  }
  void ready(std::uint64_t id) { scheduler_.instance_ready({base::InstanceId(id), "/run/s", {}}, now_, out_); }
  /// The actions since the last call, as in scenario files, one a line.
  std::string happened() {
    std::string text;
    for (const Action& action : out_) text += test::describe(action) + "\n";
    out_.clear();
    return text;
  }
  [[nodiscard]] ErrorKind refusal_of(const spec::ModelSpec& spec) const {
    const base::Status status = scheduler_.can_ever_run(spec);
    EXPECT_FALSE(status.ok());
    return status.ok() ? ErrorKind::internal : status.error().kind;
  }

  Scheduler scheduler_;
  base::TimePoint now_ = base::TimePoint{} + base::Seconds(50);
  Actions out_;
};

}  // namespace

TEST_F(SchedulerTest, can_ever_run_needs_a_device_of_the_kind_that_is_large_enough) {
  EXPECT_EQ(refusal_of(model("a", 10)), ErrorKind::unavailable);
  join({device("cpu0", 100), device("cuda0", 40, spec::DeviceKind::cuda)});
  EXPECT_TRUE(scheduler_.can_ever_run(model("a", 100)).ok());
  EXPECT_EQ(refusal_of(model("a", 101)), ErrorKind::invalid);
  spec::ModelSpec on_cuda = model("a", 41);
  on_cuda.resources.device = spec::DeviceKind::cuda;
  EXPECT_EQ(refusal_of(on_cuda), ErrorKind::invalid);
  spec::ModelSpec unknown = model("a", 1);
  unknown.resources.device_memory_bytes.reset();
  EXPECT_EQ(refusal_of(unknown), ErrorKind::invalid);
}

TEST_F(SchedulerTest, can_ever_run_counts_what_others_always_keep) {
  join({device("cpu0", 100), device("cpu1", 100)});
  deploy(model("kept", 60, 2));  // one on each
  EXPECT_TRUE(scheduler_.can_ever_run(model("a", 40)).ok());
  EXPECT_EQ(refusal_of(model("a", 41)), ErrorKind::exhausted);
  EXPECT_TRUE(scheduler_.can_ever_run(model("kept", 100, 2)).ok()) << "its own replicas do not stand in its way";
  EXPECT_TRUE(scheduler_.can_ever_run(model("a", 20, 4)).ok());
  EXPECT_EQ(refusal_of(model("a", 20, 5)), ErrorKind::exhausted);
}

TEST_F(SchedulerTest, can_ever_run_counts_kept_replicas_that_are_not_up_yet) {
  join({device("cpu0", 100)});
  deploy(model("kept", 60, 1));
  scheduler_.instance_down({base::InstanceId(1), wire::DownReason::start_failed, "", ""}, now_, out_);
  scheduler_.instance_gone({base::InstanceId(1)}, now_, out_);
  EXPECT_EQ(refusal_of(model("a", 41)), ErrorKind::exhausted);
}

TEST_F(SchedulerTest, a_thousand_sleeping_models_have_no_timer) {
  join({device("cpu0", 100)});
  for (int n = 0; n < 1000; ++n) deploy(model("m" + std::to_string(n), 50));
  EXPECT_EQ(scheduler_.next_tick(), base::never());
  ask(1, "m500");
  EXPECT_NE(scheduler_.next_tick(), base::never());
  scheduler_.request_ended(base::RequestId(1), now_, out_);
  ready(1);
  now_ = scheduler_.next_tick();
  EXPECT_EQ(now_, base::TimePoint{} + base::Seconds(350));
  scheduler_.tick(now_, out_);
  scheduler_.instance_gone({base::InstanceId(1)}, now_, out_);
  EXPECT_EQ(happened(), "start 1 m500 n/cpu0\nstop 1 idle\n");
  EXPECT_EQ(scheduler_.next_tick(), base::never());
  EXPECT_TRUE(out_.empty());
}

TEST_F(SchedulerTest, instance_ids_go_on_behind_those_of_an_earlier_life) {
  Scheduler scheduler({}, 42);
  scheduler.node_joined({base::NodeName("n"), {device("cpu0", 100)}}, now_, out_);
  scheduler.model_deployed(model("a", 10, 1), now_, out_);
  EXPECT_EQ(happened(), "start 42 a n/cpu0\n");
}

TEST_F(SchedulerTest, events_of_the_unknown_change_nothing) {
  join({device("cpu0", 100)});
  deploy(model("a", 10));
  ready(9);
  scheduler_.instance_down({base::InstanceId(9), wire::DownReason::crashed, "", ""}, now_, out_);
  scheduler_.instance_gone({base::InstanceId(9)}, now_, out_);
  scheduler_.request_answering(base::RequestId(9), now_);
  scheduler_.request_ended(base::RequestId(9), now_, out_);
  scheduler_.request_failed(base::RequestId(9), RequestFailure::cut, now_, out_);
  scheduler_.model_removed(base::ModelName("x"), now_, out_);
  scheduler_.model_stopped(base::ModelName("x"), true, now_, out_);
  EXPECT_EQ(happened(), "");
  ask(1, "x");
  EXPECT_EQ(happened(), "refuse 1 model_removed retry 0s model x does not exist\n");
}

TEST_F(SchedulerTest, who_asks_is_told_of_models_not_of_revisions) {
  ask(1, "acme~x@2");
  EXPECT_EQ(happened(), "refuse 1 model_removed retry 0s model x does not exist\n");
}

TEST_F(SchedulerTest, a_request_that_waits_can_be_neither_failed_nor_answered) {
  join({device("cpu0", 100)});
  deploy(model("a", 10));
  ask(1, "a");
  scheduler_.request_failed(base::RequestId(1), RequestFailure::connect, now_, out_);
  scheduler_.request_answering(base::RequestId(1), now_);
  ready(1);
  EXPECT_EQ(happened(), "start 1 a n/cpu0\ndispatch 1 to 1 cold after 0s\n");
}

TEST_F(SchedulerTest, what_began_to_answer_is_not_tried_again) {
  join({device("cpu0", 100)});
  deploy(model("a", 10));
  ask(1, "a");
  ready(1);
  scheduler_.request_answering(base::RequestId(1), now_);
  happened();
  scheduler_.instance_down({base::InstanceId(1), wire::DownReason::crashed, "signal 9", ""}, now_, out_);
  scheduler_.request_failed(base::RequestId(1), RequestFailure::cut, now_, out_);
  EXPECT_EQ(happened(), "");
  EXPECT_EQ(scheduler_.requests_in_flight(), 0U);
}

TEST_F(SchedulerTest, the_engines_words_reach_the_client_but_not_without_end) {
  join({device("cpu0", 100)});
  Policy policy;
  policy.start_failures_before_refusing = 1;
  Scheduler scheduler(policy);
  scheduler.node_joined({base::NodeName("n"), {device("cpu0", 100)}}, now_, out_);
  scheduler.model_deployed(model("a", 10), now_, out_);
  for (const std::string& line : {std::string("cannot load: bad magic"), std::string(4000, 'x')}) {
    out_.clear();
    static std::uint64_t id = 0;
    ++id;
    now_ += base::Seconds(40);
    scheduler.request_arrived({base::RequestId(id), base::ModelName("a"), base::TenantName("t")}, now_, out_);
    scheduler.instance_down({base::InstanceId(id), wire::DownReason::start_failed, "exit status 1", "one\n" + line + "\n\n"}, now_, out_);
    scheduler.instance_gone({base::InstanceId(id)}, now_, out_);
    ASSERT_EQ(out_.size(), 2U);
    const auto& refusal = std::get<Refuse>(out_[1]);
    EXPECT_NE(refusal.message.find("exit status 1: " + line.substr(0, 20)), std::string::npos) << refusal.message;
    EXPECT_LT(refusal.message.size(), 500U);
    EXPECT_EQ(refusal.message.find("one"), std::string::npos);
  }
}

TEST_F(SchedulerTest, views_show_the_books) {
  join({device("cpu0", 100)});
  deploy(model("b", 30));
  deploy(model("a", 40));
  ask(1, "a");
  now_ += base::Millis(200);
  ready(1);
  ask(2, "b");

  const auto models = scheduler_.models();
  ASSERT_EQ(models.size(), 2U);
  EXPECT_EQ(models[0].model.str(), "a");
  EXPECT_EQ(models[0].ready, 1U);
  EXPECT_EQ(models[0].in_flight, 1U);
  EXPECT_EQ(models[0].start_cost, base::Millis(200));
  EXPECT_EQ(models[1].starting, 1U);
  EXPECT_EQ(models[1].queued, 1U);

  const auto instances = scheduler_.instances();
  ASSERT_EQ(instances.size(), 2U);
  EXPECT_EQ(instances[0].state, InstanceState::ready);
  EXPECT_EQ(instances[0].idle_since, base::never());
  EXPECT_EQ(instances[0].device.str(), "cpu0");
  EXPECT_EQ(instances[1].state, InstanceState::starting);
  EXPECT_EQ(instances[1].device_bytes, 30U);

  const auto devices = scheduler_.devices();
  ASSERT_EQ(devices.size(), 1U);
  EXPECT_EQ(devices[0].reserved_bytes, 70U);

  now_ += base::Seconds(1);
  scheduler_.request_ended(base::RequestId(1), now_, out_);
  EXPECT_EQ(scheduler_.instances()[0].idle_since, now_);
  EXPECT_EQ(scheduler_.instances()[0].served, 1U);
}

TEST_F(SchedulerTest, small_models_are_packed_so_that_large_holes_stay_whole) {
  join({device("cpu0", 100), device("cpu1", 100)});
  for (const char* name : {"a", "b", "c"}) deploy(model(name, 30, 1));
  deploy(model("d", 100, 1));
  EXPECT_EQ(happened(), "start 1 a n/cpu0\nstart 2 b n/cpu0\nstart 3 c n/cpu0\nstart 4 d n/cpu1\n");
}

TEST_F(SchedulerTest, a_failed_start_is_tried_elsewhere_first) {
  join({device("cpu0", 100)});
  deploy(model("a", 30, 1));
  join({device("cpu0", 100)}, "other");
  scheduler_.instance_down({base::InstanceId(1), wire::DownReason::start_failed, "", ""}, now_, out_);
  scheduler_.instance_gone({base::InstanceId(1)}, now_, out_);
  now_ = scheduler_.next_tick();
  scheduler_.tick(now_, out_);
  EXPECT_EQ(happened(), "start 1 a n/cpu0\nstart 2 a other/cpu0\n");
}

/// Whose engine runs in another sandbox would answer from an image far more slowly.
TEST_F(SchedulerTest, images_are_of_models_that_run_in_their_sandbox) {
  wire::NodeHello hello{base::NodeName("n"), {device("cpu0", 100)}};
  hello.image_budget_bytes = 1'000;
  hello.drivers = {{wire::DriverKind::runsc, spec::DeviceKind::cpu, false, true, "", true}};
  scheduler_.node_joined(hello, now_, out_);
  const std::optional<spec::SandboxKind> unsaid;
  for (const auto& [name, sandbox] : {std::pair{"a", unsaid}, std::pair{"b", std::optional(spec::SandboxKind::runc)},
                                      std::pair{"c", std::optional(spec::SandboxKind::runsc)}}) {
    spec::ModelSpec spec = model(name, 30);
    spec.sandbox = sandbox;
    deploy(spec);
  }
  for (const char* name : {"a", "b"}) {
    const auto image = scheduler_.model_snapshot(base::ModelName(name), now_, out_);
    ASSERT_FALSE(image.ok()) << name;
    EXPECT_NE(image.error().message.find("spec.sandbox"), std::string::npos) << image.error().message;
  }
  EXPECT_TRUE(scheduler_.model_snapshot(base::ModelName("c"), now_, out_).ok());
}

}  // namespace thaw::control
