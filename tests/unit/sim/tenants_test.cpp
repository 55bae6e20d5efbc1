// Tenants and priorities: as a trace or a fleet names them, what follows for who waits, and where device time went.
#include "sim/tenants.h"

#include <gtest/gtest.h>

#include <numeric>

#include "sim/experiment.h"
#include "sim/generate.h"
#include "unit/sim/by_hand.h"

namespace thaw::sim {
namespace {

using base::Seconds;

double held_by_all(const Outcome& o) { return o.held_by.rising + o.held_by.answering + o.held_by.idle + o.held_by.falling; }

double held_by_tenants(const Outcome& o) {
  return std::accumulate(o.tenants.begin(), o.tenants.end(), 0.0, [](double sum, const GroupOutcome& g) { return sum + g.held_device_s; });
}

/// One device, on which one model finds room at a time.
Fleet narrow() { return round_fleet(1, 100, "m"); }

TEST(Tenants, AndPrioritiesAreReadFromATrace) {
  const auto trace = read_trace("time,model,duration,team,priority\n0,a,1,red,\n1,b,1,,high\n2,a,1,blue,low\n3,a,1,red,normal\n", "t.csv",
                                {.tenant = "team"});
  ASSERT_TRUE(trace.ok()) << trace.error().message;
  EXPECT_EQ(trace->tenants, (std::vector<std::string>{"red", "default", "blue"}));
  std::vector<TenantIndex> asked;
  for (const TraceRequest& request : trace->requests) asked.push_back(request.tenant);
  EXPECT_EQ(asked, (std::vector<TenantIndex>{0, 1, 2, 0}));
  EXPECT_FALSE(trace->requests[0].priority);
  EXPECT_EQ(trace->requests[1].priority, spec::Priority::high);
  EXPECT_EQ(trace->requests[2].priority, spec::Priority::low);

  const auto wrong = read_trace("time,duration,priority\n0,1,urgent\n", "t.csv", {});
  ASSERT_FALSE(wrong.ok());
  EXPECT_EQ(wrong.error().message, "t.csv:2: \"urgent\" is no priority; low, normal, high or nothing");
}

TEST(Tenants, OfAFleetShareItsModels) {
  Fleet fleet = narrow();
  fleet.tenants = {{.name = "large", .share = 3}, {.name = "small", .share = 1}, {.name = "none", .share = 0}};
  Trace trace;
  for (int n = 0; n < 400; ++n) trace.models.push_back("m" + std::to_string(n));
  const Tenants tenants(fleet, trace);
  std::vector<int> models(3);
  for (ModelIndex m = 0; m < 400; ++m) ++models[tenants.of_model(m)];
  EXPECT_NEAR(models[0], 300, 40);
  EXPECT_EQ(models[2], 0);
}

TEST(Tenants, ATraceThatNamesThemIsBelieved) {
  Fleet fleet = narrow();
  fleet.tenants = {{.name = "red", .max_priority = spec::Priority::normal}};
  Trace trace = trace_of({{0, 0}, {1, 1}, {2, 1}});
  trace.tenants = {"blue", "red"};
  trace.requests[1].tenant = trace.requests[2].tenant = 1;
  trace.requests[0].priority = trace.requests[1].priority = spec::Priority::high;
  trace.requests[2].priority = spec::Priority::low;
  const Tenants tenants(fleet, trace);
  EXPECT_EQ(tenants.shape_of(0), nullptr);
  EXPECT_EQ(tenants.of_model(0), 0U);
  EXPECT_EQ(tenants.of_model(1), 1U);
  EXPECT_EQ(tenants.priority_of(0), spec::Priority::high) << "nothing was said of blue";
  EXPECT_EQ(tenants.priority_of(1), spec::Priority::normal) << "red may ask for no more";
  EXPECT_EQ(tenants.priority_of(2), spec::Priority::low);
}

/// m0 is up; m1 and then m2 wait for its device.
Trace two_wait() { return trace_of({{0, 0}, {5, 0}, {6, 1}, {6, 2}}); }

TEST(Tenants, WhoHasThePriorityComesFirst) {
  Trace trace = two_wait();
  const auto even = delays(simulate(narrow(), trace, "thaw"));
  EXPECT_LT(even[2], even[3]);
  trace.requests[3].priority = spec::Priority::high;
  const Outcome o = simulate(narrow(), trace, "thaw");
  EXPECT_GT(delays(o)[2], delays(o)[3]);
  ASSERT_EQ(o.priorities.size(), 2U);
  EXPECT_EQ(o.priorities[0].name, "normal");
  EXPECT_EQ(o.priorities[0].delays.requests, 3U);
  EXPECT_EQ(o.priorities[1].name, "high");
  EXPECT_NEAR(o.priorities[1].delays.max_s, delays(o)[3], 1e-3);
}

TEST(Tenants, NobodyGetsMoreDevicesThanItMay) {
  Fleet fleet = round_fleet(4, 100, "m");
  fleet.tenants = {{.name = "capped", .max_devices = 1}, {.name = "free"}};
  Trace trace;
  trace.durations = true;
  trace.models = {"a", "b", "c", "d"};
  trace.tenants = {"capped", "free"};
  for (ModelIndex m = 0; m < 4; ++m) trace.requests.push_back({Seconds(0), m, 0, 0, Seconds(10), static_cast<TenantIndex>(m < 3 ? 0 : 1)});
  const Outcome capped = simulate(fleet, trace, "thaw");
  fleet.tenants.clear();
  const Outcome free = simulate(fleet, trace, "thaw");
  EXPECT_EQ(free.peak_devices, 4U);
  EXPECT_EQ(capped.peak_devices, 2U);
  EXPECT_EQ(capped.answered, 4U);
  ASSERT_EQ(capped.tenants.size(), 2U);
  EXPECT_GT(capped.tenants[0].delays.max_s, 20) << "its three models take turns on one device";
  EXPECT_EQ(capped.tenants[1].delays.max_s, 9) << "two read the disk at once";
}

TEST(Tenants, WhatTheyHeldIsWhatWasHeld) {
  Synthetic synthetic;
  synthetic.requests = 400;
  synthetic.models = 20;
  synthetic.span = Seconds(1200);
  synthetic.cv = 3;
  const Trace trace = generate(synthetic);
  Fleet fleet = resized(default_fleet(false), 2);
  fleet.tenants = {{.name = "heavy", .share = 1, .weight = 4}, {.name = "light", .share = 1}};
  for (const char* policy : {"thaw", "thaw-5m", "always-on", "serverlessllm"}) {
    const Outcome o = simulate(fleet, trace, policy);
    EXPECT_EQ(o.violated, 0U) << policy;
    ASSERT_EQ(o.tenants.size(), 2U);
    EXPECT_EQ(o.tenants[0].delays.requests + o.tenants[1].delays.requests, trace.requests.size());
    EXPECT_EQ(o.tenants[0].delays.answered + o.tenants[1].delays.answered, o.answered);
    EXPECT_NEAR(held_by_all(o), o.held_device_s, 1e-6 * o.held_device_s) << policy;
    EXPECT_NEAR(held_by_tenants(o), o.held_device_s, 1e-6 * o.held_device_s) << policy;
    EXPECT_GT(o.held_by.answering, 0);
  }
}

/// Where both want more than there is, the one with four times the weight waits less.
TEST(Tenants, TheHeavierWaitsLess) {
  Synthetic synthetic;
  synthetic.requests = 1500;
  synthetic.models = 40;
  synthetic.span = Seconds(600);
  synthetic.zipf = 0.3;
  const Trace trace = generate(synthetic);
  Fleet fleet = resized(default_fleet(false), 2);
  const auto heavy_less_light = [&](double weight) {
    fleet.tenants = {{.name = "heavy", .weight = weight}, {.name = "light"}};
    const Outcome o = simulate(fleet, trace, "thaw");
    return o.tenants[0].delays.p50_s - o.tenants[1].delays.p50_s;
  };
  EXPECT_LT(heavy_less_light(8), heavy_less_light(1) - 1);
}

TEST(Tenants, AreDeclaredInAFleetFile) {
  const std::string text = default_fleet_yaml(false);
  const auto fleet = parse_fleet(text + "tenants:\n  - {name: acme, weight: 2, maxDevices: 1.5, maxDeviceSecondsPerDay: 3600, maxPriority: normal}\n  - {name: other, share: 3}\n", "f.yaml");
  ASSERT_TRUE(fleet.ok()) << fleet.error().message;
  ASSERT_EQ(fleet->tenants.size(), 2U);
  EXPECT_EQ(fleet->tenants[0].weight, 2);
  EXPECT_EQ(fleet->tenants[0].max_devices, 1.5);
  EXPECT_EQ(fleet->tenants[0].max_device_seconds_per_day, 3600);
  EXPECT_EQ(fleet->tenants[0].max_priority, spec::Priority::normal);
  EXPECT_EQ(fleet->tenants[1].share, 3);
  const auto twice = parse_fleet(text + "tenants: [{name: acme}, {name: acme}]\n", "f.yaml");
  ASSERT_FALSE(twice.ok());
  EXPECT_NE(twice.error().message.find("acme is there more than once"), std::string::npos) << twice.error().message;
}

}  // namespace
}  // namespace thaw::sim
