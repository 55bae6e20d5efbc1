// Machines whose device is the CPU: the page cache is device memory, ways up compute, and weights are read beside a
// start.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "sim/compute.h"
#include "sim/costs.h"
#include "sim/experiment.h"
#include "sim/host_memory.h"
#include "sim/page_cache.h"

namespace thaw::sim {
namespace {

using base::Millis;
using base::Seconds;
using base::TimePoint;

TimePoint at(double s) {
  return TimePoint(base::Duration(static_cast<std::int64_t>(s * 1e9)));
}

/// Weights of 100 bytes, from the disk in a second; a start takes 2 s, a wake 1 s, a prompt of 100 tokens 1 s, and each
/// token after the first 0.1 s.
Fleet machine(spec::Mode standby) {
  Fleet fleet;
  NodeShape node;
  node.device_kind = spec::DeviceKind::cpu;
  node.devices = 1;
  node.device_bytes = 1000;
  node.host_bytes = 10'000;
  node.disk_bytes_per_s = 100;
  fleet.nodes = {node};
  fleet.images_ready = false;
  ModelClass kind;
  kind.name = "kind";
  kind.weights_bytes = 100;
  kind.working_bytes = 50;
  kind.state_bytes = 10;
  kind.resident_bytes = 30;
  kind.concurrency = 2;
  kind.max_replicas = 1;
  kind.idle_timeout = Seconds(5);
  kind.standby = standby;
  kind.measured = {Seconds(2),  {},          Seconds(1), Seconds(1), Seconds(1), Millis(500),
                   Millis(250), Millis(250), {},         Millis(10), Millis(100)};
  fleet.models = {kind};
  return fleet;
}

/// Prompts of 100 tokens, answers of 11: (at, model).
Trace trace_of(const std::vector<std::pair<int, ModelIndex>>& requests) {
  Trace trace;
  for (const auto& [at_s, model] : requests) {
    while (trace.models.size() <= model) trace.models.push_back("m" + std::to_string(trace.models.size()));
    trace.requests.push_back({Seconds(at_s), model, 100, 11, {}});
  }
  return trace;
}

std::vector<double> delays(const Outcome& outcome) {
  std::vector<double> all(outcome.delay_s.begin(), outcome.delay_s.end());
  for (double& delay : all) delay = std::round(delay * 1000) / 1000;
  return all;
}

Outcome run(const Fleet& fleet, const Trace& trace) {
  const Outcome outcome = simulate(fleet, trace, "thaw-5m");
  EXPECT_EQ(outcome.violated, 0U) << outcome.violations.front();
  return outcome;
}

TEST(Cpu, AStartReadsWeightsBesideAndAWakeReadsThemAgain) {
  const Outcome o = run(machine(spec::Mode::always), trace_of({{0, 0}, {20, 0}}));
  EXPECT_EQ(delays(o), (std::vector<double>{3.25, 2.25}));
  EXPECT_EQ(o.served, (std::vector<Served>{Served::start, Served::wake}));
  // 30 bytes of its own from the first, its weights after a second; in standby from 10.25 s, when 10 bytes are left, to
  // 20 s; and so again.
  EXPECT_NEAR(o.memory_byte_s, 30 + 130 * 9.25 + 10 * 9.75 + 30 + 130 * 2.25, 1e-6);
  EXPECT_EQ(o.memory_peak_bytes, 130U);
}

TEST(Cpu, WhatAReplicaHoldsGrowsWithItsLongestRequest) {
  Fleet fleet = machine(spec::Mode::always);
  fleet.models[0].resident_bytes = 20;
  fleet.models[0].state_bytes = 5;
  fleet.nodes[0].device_bytes = 100'000;
  fleet.models[0].working_bytes = 500;
  fleet.models[0].bytes_per_token = 2;
  const Trace trace = trace_of({{0, 0}, {20, 0}});
  const Outcome o = run(fleet, trace);
  const double tokens = 2 * 111, up = 20 + 100 + tokens;
  // Dispatched after 2 s, in standby from 10.25 s to 20 s; what was touched once stays, also over standby.
  EXPECT_NEAR(o.memory_byte_s, 20 + (20 + 100) + up * 8.25 + (5 + tokens) * 9.75 + (20 + tokens) + up * 2.25, 1e-6);
  EXPECT_EQ(o.memory_peak_bytes, 20U + 100 + 2 * 111);
  fleet.models[0].working_bytes = 50;  // no more than there is
  EXPECT_EQ(run(fleet, trace).memory_peak_bytes, 150U);
}

TEST(Cpu, AnAnswerWaitsForASlowDisk) {
  Fleet fleet = machine(spec::Mode::always);
  fleet.nodes[0].disk_bytes_per_s = 20;
  EXPECT_EQ(delays(run(fleet, trace_of({{0, 0}}))), (std::vector<double>{5}));
}

TEST(Cpu, WeightsStayInMemoryAfterAStop) {
  const Outcome o = run(machine(spec::Mode::never), trace_of({{0, 0}, {20, 0}}));
  EXPECT_EQ(delays(o),
            (std::vector<double>{3.25, 3.5}));  // the first answer after a start from memory takes 0.5 s longer
  EXPECT_EQ(o.served.back(), Served::start);
}

TEST(Cpu, WeightsLeaveWhereAnotherModelNeedsTheirRoom) {
  Fleet fleet = machine(spec::Mode::never);
  const Trace trace = trace_of({{0, 0}, {20, 1}, {40, 0}});
  EXPECT_EQ(delays(run(fleet, trace)), (std::vector<double>{3.25, 3.25, 3.5}));
  fleet.nodes[0].device_bytes = 200;  // 150 of the second, and 100 that the first has left there
  EXPECT_EQ(delays(run(fleet, trace)), (std::vector<double>{3.25, 3.25, 3.25}));
}

TEST(Cpu, WhatAFirstAnswerTakesLongerGrowsWithWhatIsMissing) {
  ModelClass kind;
  kind.measured.first_answer = Millis(100);
  EXPECT_EQ(first_answer_cost(kind, wire::Way::start, 1, 1), base::Duration(Millis(100)));  // nothing else was measured
  kind.measured.first_from_disk = Millis(300);
  kind.measured.first_after_wake = Millis(200);
  EXPECT_EQ(first_answer_cost(kind, wire::Way::start, 0, 0), base::Duration(Millis(100)));
  EXPECT_EQ(first_answer_cost(kind, wire::Way::start, 0.25, 0), base::Duration(Millis(150)));
  EXPECT_EQ(first_answer_cost(kind, wire::Way::wake, 1, 1), base::Duration(Millis(200)));
  // Memory that is still there makes a difference only where that was measured, too.
  EXPECT_EQ(first_answer_cost(kind, wire::Way::wake, 1, 0), base::Duration(Millis(200)));
  kind.measured.soon_after_wake = Millis(120);
  kind.measured.soon_from_disk = Millis(140);
  EXPECT_EQ(first_answer_cost(kind, wire::Way::wake, 1, 0), base::Duration(Millis(120)));
  EXPECT_EQ(first_answer_cost(kind, wire::Way::wake, 1, 0.5), base::Duration(Millis(160)));
  EXPECT_EQ(first_answer_cost(kind, wire::Way::start, 0.5, 0), base::Duration(Millis(120)));
  EXPECT_EQ(first_answer_cost(kind, wire::Way::start, 0.5, 0.5), base::Duration(Millis(200)));
}

TEST(Cpu, AStartComputesBesideOthersAndComesFirst) {
  Fleet fleet = machine(spec::Mode::never);
  Trace trace = trace_of({{0, 0}, {4, 1}});
  trace.requests[0].output_tokens = 1000;
  EXPECT_EQ(delays(run(fleet, trace))[1], 6.5);  // half of the processors
  fleet.fresh_share = 0.8;
  EXPECT_NEAR(delays(run(fleet, trace))[1], 3.25 / 0.8, 0.002);
  fleet.contended_rate = 0.5;
  EXPECT_NEAR(delays(run(fleet, trace))[1], 3.25 / 0.8 / 0.5, 0.002);
  fleet.rising_rate = 0.25;  // until its first answer
  EXPECT_NEAR(delays(run(fleet, trace))[1], 3.25 / 0.8 / 0.25, 0.002);
}

TEST(Cpu, NobodyElseIsServedWorseThanWithoutAnEnd) {
  for (const char* policy :
       {"thaw", "thaw-5m", "always-on", "ollama", "knative", "serverlessllm", "inferx", "llama-swap"}) {
    const Outcome o =
        simulate(machine(spec::Mode::automatic), trace_of({{0, 0}, {1, 1}, {30, 0}, {31, 2}, {600, 1}}), policy);
    EXPECT_EQ(o.violated, 0U) << policy << ": " << (o.violations.empty() ? "" : o.violations.front());
    EXPECT_EQ(o.answered, 5U) << policy;
  }
}

TEST(Cpu, AHostTakesMemoryBackThatIsFree) {
  Fleet fleet = machine(spec::Mode::always);
  fleet.models[0].measured.soon_after_wake = Millis(50);
  // In standby from 10.25 s: woken 1.75 s later, and the other one 29.75 s later.
  const Trace trace = trace_of({{0, 0}, {12, 0}, {52, 0}});
  EXPECT_EQ(delays(run(fleet, trace)), (std::vector<double>{3.25, 2.05, 2.05}));  // it is the machine's own
  fleet.nodes[0].memory_return_bytes = 60;
  EXPECT_EQ(delays(run(fleet, trace)), (std::vector<double>{3.25, 2.05, 2.25}));
}

TEST(HostMemory, PartsGoBackEveryTwoSeconds) {
  HostMemory memory(30);
  EXPECT_EQ(memory.take(10, at(0)), 10U);  // nothing was in use yet
  memory.freed(100, at(1));
  EXPECT_EQ(memory.take(20, at(2.9)), 0U);
  memory.freed(10, at(2.9));
  EXPECT_EQ(memory.take(40, at(5)), 10U);  // 90, of which 30 went back after 3 s, and 30 after 5 s
  memory.freed(40, at(6));
  EXPECT_EQ(memory.take(20, at(7)), 0U);
  EXPECT_EQ(memory.take(20, at(8)), 20U);
  HostMemory own(0);
  EXPECT_EQ(own.take(1000, at(0)), 0U);
}

TEST(Compute, OfThoseThatAreFreshOneAtATimeComesFirst) {
  DeviceCompute compute;
  compute.be_cpu({1, 1, 3});
  const auto a = compute.add_replica(0.01, 0), b = compute.add_replica(0.01, 0), c = compute.add_replica(0.01, 0);
  compute.fresh(a, 200, at(0));
  compute.fresh(b, 100, at(0));
  compute.begin_way(a, 1, at(0));
  compute.begin_way(b, 0.6, at(0));
  compute.begin(c, 1, {1.0, 0}, at(0));
  EXPECT_EQ(compute.next(), at(1));  // the smaller one, at three fifths of the rate; the others have done 0.2 each
  EXPECT_EQ(compute.pop(at(1)).slot, b);
  EXPECT_NEAR(base::to_s(compute.next().time_since_epoch()), 1 + 0.8 / 0.75,
              1e-6);  // the other fresh one comes first now
  compute.mature(a, at(1));
  EXPECT_NEAR(base::to_s(compute.next().time_since_epoch()), 1 + 2 * 0.8, 1e-6);
  compute.mature(b, at(1));
  compute.be_cpu({0.5, 0.5, 3});
  compute.begin(b, 2, {0.1, 0}, at(1));
  EXPECT_NEAR(base::to_s(compute.next().time_since_epoch()), 1 + 3 * 0.1 / 0.5, 1e-6);
}

TEST(PageCache, PartsLeaveOnOrder) {
  PageCache cache(1000);
  cache.use(1, 100);
  cache.keep(1, 40);
  EXPECT_EQ(cache.resident(1), 40U);
  EXPECT_EQ(cache.used_bytes(), 40U);
  cache.keep(1, 60);
  EXPECT_EQ(cache.resident(1), 40U);
  cache.use(1, 100);
  EXPECT_EQ(cache.used_bytes(), 100U);
  cache.keep(1, 0);
  EXPECT_FALSE(cache.has(1));
}

}  // namespace
}  // namespace thaw::sim
