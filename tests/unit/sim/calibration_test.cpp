// From probes to a fleet.
#include <gtest/gtest.h>

#include "sim/calibration.h"

namespace thaw::sim {
namespace {

using Micros = std::chrono::microseconds;
using base::Millis;
using base::Seconds;

Probe warm(std::uint32_t tokens, double first_s) {
  Probe probe;
  probe.prompt_tokens = tokens;
  probe.first_s = first_s;
  return probe;
}

Probe answer(std::uint32_t tokens, double answer_s) {
  Probe probe;
  probe.output_tokens = tokens;
  probe.answer_s = answer_s;
  return probe;
}

Probe cold(double queued_s, double first_s, std::uint64_t read_bytes = 0, double read_s = 0) {
  Probe probe;
  probe.prompt_tokens = 10;
  probe.queued_s = queued_s;
  probe.first_s = first_s;
  probe.read_bytes = read_bytes;
  probe.read_s = read_s;
  return probe;
}

TEST(Calibration, PromptsAreALine) {
  const PromptLine line = fit_prompts({warm(10, 0.03), warm(20, 0.05), warm(100, 0.21)});
  EXPECT_NEAR(line.prompt_s, 0.010, 1e-9);
  EXPECT_NEAR(line.token_s, 0.002, 1e-9);
  // One that was disturbed changes nothing.
  const PromptLine same = fit_prompts({warm(10, 0.03), warm(20, 0.05), warm(100, 0.21), warm(40, 0.09), warm(41, 0.5)});
  EXPECT_NEAR(same.prompt_s, 0.010, 1e-9);
  EXPECT_NEAR(same.token_s, 0.002, 1e-9);
  // Below zero at no tokens: through the origin.
  const PromptLine steep = fit_prompts({warm(10, 0.01), warm(20, 0.05)});
  EXPECT_EQ(steep.prompt_s, 0);
  EXPECT_NEAR(steep.token_s, (0.001 + 0.0025) / 2, 1e-9);
  EXPECT_EQ(fit_prompts({}).token_s, 0);
  EXPECT_EQ(fit_prompts({warm(10, 0.1), warm(10, 0.2)}).token_s, 0);
}

TEST(Calibration, MemoryThatIsStillThereIsNeverSlower) {
  ModelClass kind;
  ModelProbes probes;
  probes.warm = {warm(10, 0.03), warm(20, 0.05), warm(100, 0.21)};
  probes.from_disk = {cold(0.2, 0.13, 2000, 2)};
  probes.soon_from_disk = {cold(0.2, 0.05, 2000, 2), cold(0.2, 0.06, 2000, 2), cold(0.2, 0.5, 2000, 2)};
  probes.wakes = {cold(0.1, 0.08)};
  probes.soon_wakes = {cold(0.1, 0.09)};
  calibrate(kind, probes);
  EXPECT_EQ(kind.measured.first_from_disk, base::Duration(Millis(100)));
  EXPECT_EQ(kind.measured.soon_from_disk, base::Duration(Millis(30)));
  EXPECT_EQ(kind.measured.first_after_wake, base::Duration(Millis(50)));
  EXPECT_EQ(kind.measured.soon_after_wake, base::Duration(Millis(50)));
}

TEST(Calibration, WhatAReplicaHoldsGrowsByToken) {
  ModelClass kind;
  kind.working_bytes = 10'000;
  ModelProbes probes;
  probes.short_up = {{1500, 50}, {1510, 51}, {9999, 50}};
  probes.long_up = {{3000, 200}, {3000, 200}, {3000, 200}};
  probes.resting = {{2500, 200}, {2600, 200}, {2500, 200}};
  calibrate(kind, probes);
  EXPECT_EQ(kind.bytes_per_token, 10U);  // one that was disturbed changes nothing
  EXPECT_EQ(kind.resident_bytes, 1000U);
  EXPECT_EQ(kind.state_bytes, 500U);
  EXPECT_EQ(kind.own_bytes(100), 2000U);
  EXPECT_EQ(kind.rest_bytes(5000), 10'000U);
  // Where nothing grows, all is there from the first.
  probes.short_up.clear();
  calibrate(kind, probes);
  EXPECT_EQ(kind.bytes_per_token, 0U);
  EXPECT_EQ(kind.state_bytes, 2500U);
  EXPECT_EQ(kind.rest_bytes(5000), 2500U);
}

TEST(Calibration, WhatAFirstAnswerTakesLongerIsWhatItsPromptDoesNot) {
  ModelClass kind;
  ModelProbes probes;
  probes.warm = {warm(10, 0.03), warm(20, 0.05), warm(100, 0.21)};
  probes.decode = {answer(11, 0.1), answer(11, 0.12), answer(11, 0.5)};
  probes.together = {answer(11, 0.15)};
  probes.starts = {cold(0.2, 0.07), cold(0.1, 0.08), cold(0.3, 0.09)};
  probes.from_disk = {cold(0.2, 0.13, 2000, 2)};
  probes.wakes = {cold(0.004, 0.01)};
  probes.freeze_s = {0.02};
  calibrate(kind, probes);
  EXPECT_EQ(kind.measured.start, base::Duration(Millis(200)));
  EXPECT_EQ(kind.measured.first_answer, base::Duration(Millis(50)));
  EXPECT_EQ(kind.measured.first_from_disk, base::Duration(Millis(100)));
  EXPECT_EQ(kind.measured.wake, base::Duration(Millis(4)));
  EXPECT_EQ(kind.measured.first_after_wake, base::Duration::zero());  // not less than its prompt
  EXPECT_EQ(kind.measured.freeze, base::Duration(Millis(20)));
  EXPECT_EQ(kind.measured.stop, std::nullopt);
  EXPECT_EQ(kind.per_sequence, base::Duration(Millis(3)));
  EXPECT_EQ(kind.measured.step, base::Duration(Millis(9)));
  EXPECT_EQ(disk_rate({probes, {}}), 1000);
  EXPECT_EQ(disk_rate({}), 0);
}

TEST(Calibration, EnginesThatShareTheProcessors) {
  Fleet fleet;
  const auto of = [](double alone_s, double beside_s, double apart_s, double together_s) {
    SharingProbes probes;
    probes.fresh_alone_s = {alone_s};
    probes.fresh_beside_s = {beside_s};
    probes.apart_s = {apart_s};
    probes.together_s = {together_s};
    return probes;
  };
  calibrate(fleet, of(0.3, 0.5, 0.4, 0.5), {});
  EXPECT_EQ(fleet.rising_rate, std::nullopt);
  EXPECT_DOUBLE_EQ(fleet.contended_rate, 0.8);
  EXPECT_DOUBLE_EQ(fleet.fresh_share, 0.75);
  calibrate(fleet, of(0.3, 0.3, 0.4, 0.3), {});  // nothing is lost, and nobody comes before more than all
  EXPECT_EQ(fleet.contended_rate, 1);
  EXPECT_EQ(fleet.fresh_share, 0.95);
  // What each takes alone is known of its kind: 0.3 s (late 1 s), and 0.5 s (late 0.6 s) for its weights.
  ModelClass kind;
  kind.name = "a";
  kind.measured.wake = Millis(50);
  kind.measured.prompt_token = Millis(5);
  kind.measured.first_after_wake = Millis(900);
  kind.measured.soon_after_wake = Millis(200);
  fleet.models = {kind, kind};
  fleet.models[1].name = "b";
  fleet.models[1].measured.start = Millis(100);
  fleet.models[1].measured.first_from_disk = Millis(450);
  fleet.models[1].measured.soon_from_disk = Millis(10);
  fleet.models[1].weights_bytes = 500;
  fleet.nodes.emplace_back().disk_bytes_per_s = 1000;
  const std::vector<RisingProbe::Riser> two{{"a", wire::Way::wake, 10}, {"b", wire::Way::start, 10}};
  const RisingProbe soon{two, false, 1.2}, late{two, true, 1.8}, disturbed{two, true, 9};
  calibrate(fleet, of(0.3, 0.5, 0.4, 0.4), {soon, soon, soon, late, late, disturbed});
  EXPECT_EQ(fleet.contended_rate, 1);
  EXPECT_DOUBLE_EQ(*fleet.rising_rate, 0.8);
  EXPECT_DOUBLE_EQ(fleet.fresh_share, 0.75);  // the one beside was on its way up
}

TEST(Calibration, AFleetIsReadAsItIsWritten) {
  Fleet fleet;
  fleet.name = "measured";
  NodeShape node;
  node.count = 2;
  node.devices = 1;
  node.device_kind = spec::DeviceKind::cpu;
  node.device_bytes = 2ULL << 30;
  node.host_bytes = 24ULL << 30;
  node.disk_bytes_per_s = 1'500'000'000;
  node.memory_return_bytes = 128 << 20;
  fleet.nodes = {node};
  ModelClass kind;
  kind.name = "m.1-a";
  kind.weights_bytes = 200'000'001;
  kind.working_bytes = 78'000'000;
  kind.state_bytes = 13'000'000;
  kind.resident_bytes = 33'000'000;
  kind.bytes_per_token = 2000;
  kind.concurrency = 2;
  kind.max_replicas = 3;
  kind.idle_timeout = Millis(1500);
  kind.standby = spec::Mode::always;
  kind.per_sequence = Micros(3100);
  kind.measured = {Millis(80), {},         Micros(2900), Millis(18),   Millis(30),    Millis(40),
                   Millis(70), Millis(65), Millis(9),    Micros(2083), Micros(14'600)};
  kind.measured.soon_from_disk = Millis(45);
  kind.measured.soon_after_wake = Millis(35);
  fleet.models = {kind};
  fleet.costs.request = Micros(1200);
  fleet.contended_rate = 0.81;
  fleet.rising_rate = 0.625;
  fleet.fresh_share = 0.75;
  fleet.images_ready = false;
  const auto read = parse_fleet(to_yaml(fleet), "fleet.yaml");
  ASSERT_TRUE(read.ok()) << read.error().message << to_yaml(fleet);
  EXPECT_EQ(to_yaml(*read), to_yaml(fleet));
  EXPECT_EQ(read->models[0].measured.first_from_disk, base::Duration(Millis(70)));
  EXPECT_EQ(read->models[0].standby, spec::Mode::always);
  EXPECT_EQ(read->models[0].idle_timeout, base::Duration(Millis(1500)));
  EXPECT_EQ(read->nodes[0].device_kind, spec::DeviceKind::cpu);
  EXPECT_EQ(read->fresh_share, 0.75);
  EXPECT_EQ(to_yaml(default_fleet(false)), to_yaml(*parse_fleet(to_yaml(default_fleet(false)), "again")));
}

TEST(Fleet, AModelIsOfTheKindThatHasItsName) {
  Fleet fleet = default_fleet(false);
  EXPECT_EQ(&fleet.class_of(3, "14B"), &fleet.models[2]);
  EXPECT_EQ(&fleet.class_of(3, "another"), &fleet.class_of(3));
}

TEST(Fleet, WhatAMachineWithoutABusNeeds) {
  const std::string head = "apiVersion: thaw/v1\nkind: Fleet\ncosts: {}\n";
  const std::string model = "models: [{name: m, weights: 1GB, working: 1GB";
  const auto error = [&](const std::string& nodes, const std::string& more) {
    const auto fleet = parse_fleet(head + "nodes: [{" + nodes + "}]\n" + model + more + "}]\n", "f.yaml");
    return fleet.ok() ? "" : fleet.error().message;
  };
  const std::string cpu = "devices: 1, deviceKind: cpu, deviceMemory: 1GB, hostMemory: 1GB, diskPerSecond: 1GB";
  const std::string rates = ", measured: {promptToken: 1ms, step: 2ms}";
  EXPECT_EQ(error(cpu, rates), "");
  EXPECT_NE(error(cpu, "").find("m: measured.promptToken and measured.step are missing"), std::string::npos);
  EXPECT_NE(error("devices: 1, deviceMemory: 1GB, hostMemory: 1GB, diskPerSecond: 1GB", rates)
                .find("busPerSecond is missing"),
            std::string::npos);
  EXPECT_NE(error("devices: 2, deviceKind: cpu, deviceMemory: 1GB, hostMemory: 1GB, diskPerSecond: 1GB", rates)
                .find("has one device"),
            std::string::npos);
}

}  // namespace
}  // namespace thaw::sim
