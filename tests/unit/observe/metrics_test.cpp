#include "observe/metrics.h"
#include "observe/model_probe.h"

#include <gtest/gtest.h>

#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "wire/messages.h"

namespace thaw::observe {
namespace {

using base::Millis;

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

/// The sample's value as it is written; "absent" if there is none.
std::string value_of(const std::string& text, const std::string& sample) {
  for (const std::string& line : lines_of(text))
    if (line.rfind(sample + " ", 0) == 0) return line.substr(sample.size() + 1);
  return "absent";
}

std::size_t lines_with(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (const std::string& line : lines_of(text)) count += line.find(part) != std::string::npos ? 1U : 0U;
  return count;
}

TEST(Metrics, AnEmptyServerHasItsGaugesAndNoModel) {
  Metrics metrics;
  Levels levels;
  levels.deployed_models = 1000;
  levels.connections = 3;
  levels.buffered_bytes = 4096;
  const std::string text = metrics.scrape(levels);
  EXPECT_EQ(value_of(text, "thaw_models"), "1000");
  EXPECT_EQ(value_of(text, "thaw_connections"), "3");
  EXPECT_EQ(value_of(text, "thaw_buffered_request_bytes"), "4096");
  EXPECT_EQ(value_of(text, "thaw_usage_rows_dropped"), "0");
  EXPECT_EQ(value_of(text, "thaw_audit_failures_total"), "0");
  EXPECT_EQ(value_of(text, "thaw_client_disconnects_total"), "0");
  EXPECT_EQ(lines_with(text, "model="), 0U);
}

TEST(Metrics, SleepingModelsCostNoLine) {
  Metrics metrics;
  for (int i = 0; i < 1000; ++i) EXPECT_NE(metrics.model("model-" + std::to_string(i)), nullptr);
  EXPECT_EQ(lines_with(metrics.scrape({}), "model-"), 0U);
}

TEST(Metrics, AModelThatFellAsleepIsNotListedAnyMore) {
  Metrics metrics;
  Levels levels;
  levels.models = {{"awake", 2, 5, 1, 0}, {"other", 0, 1, 0, 1}};
  levels.devices = {{"node", "cpu0", 64, 1024}};
  const std::string before = metrics.scrape(levels);
  EXPECT_EQ(value_of(before, R"(thaw_num_requests_running{model="awake"})"), "2");
  EXPECT_EQ(value_of(before, R"(thaw_num_requests_waiting{model="awake"})"), "5");
  EXPECT_EQ(value_of(before, R"(thaw_instances{model="awake",state="ready"})"), "1");
  EXPECT_EQ(value_of(before, R"(thaw_instances{model="other",state="starting"})"), "1");
  EXPECT_EQ(value_of(before, R"(thaw_device_reserved_bytes{device="cpu0",node="node"})"), "64");
  EXPECT_EQ(value_of(before, R"(thaw_device_budget_bytes{device="cpu0",node="node"})"), "1024");

  levels.models = {{"other", 1, 0, 1, 0}};
  const std::string after = metrics.scrape(levels);
  EXPECT_EQ(lines_with(after, "awake"), 0U);
  EXPECT_EQ(value_of(after, R"(thaw_num_requests_running{model="other"})"), "1");
  EXPECT_EQ(value_of(after, R"(thaw_instances{model="other",state="starting"})"), "0");
  EXPECT_EQ(lines_with(metrics.scrape(levels), R"(thaw_num_requests_running{model="other"})"), 1U)
      << "scraping twice changes nothing";
}

TEST(Metrics, AFinishedRequestIsCounted) {
  Metrics metrics;
  ModelProbe* probe = metrics.model("m");
  Metrics::request_finished(*probe, {200, Found::cold, Millis(100), Millis(300), Millis(900), 12, 34});
  Metrics::request_finished(*probe, {200, Found::warm, Millis(0), Millis(3), Millis(9), 1, 2});
  Metrics::request_finished(*probe, {499, Found::warm, Millis(5), base::Duration(0), Millis(5), 0, 0});
  Metrics::request_finished(*probe, {0, Found::warm, Millis(5), base::Duration(0), Millis(5), 0, 0});
  const std::string text = metrics.scrape({});
  EXPECT_EQ(value_of(text, R"(thaw_requests_total{class="2xx",model="m"})"), "2");
  EXPECT_EQ(value_of(text, R"(thaw_requests_total{class="4xx",model="m"})"), "1");
  EXPECT_EQ(value_of(text, R"(thaw_requests_total{class="none",model="m"})"), "1");
  EXPECT_EQ(value_of(text, R"(thaw_prompt_tokens_total{model="m"})"), "13");
  EXPECT_EQ(value_of(text, R"(thaw_generation_tokens_total{model="m"})"), "36");
  EXPECT_EQ(value_of(text, R"(thaw_time_to_first_token_seconds_count{model="m",start="cold"})"), "1");
  EXPECT_EQ(value_of(text, R"(thaw_time_to_first_token_seconds_count{model="m",start="warm"})"), "1")
      << "no first byte is no time to it";
  EXPECT_EQ(value_of(text, R"(thaw_time_to_first_token_seconds_bucket{model="m",start="cold",le="0.25"})"), "0");
  EXPECT_EQ(value_of(text, R"(thaw_time_to_first_token_seconds_bucket{model="m",start="cold",le="0.5"})"), "1");
  EXPECT_EQ(value_of(text, R"(thaw_request_duration_seconds_count{model="m"})"), "4");
  EXPECT_EQ(value_of(text, R"(thaw_request_queue_time_seconds_count{model="m"})"), "4");
}

TEST(Metrics, CountersOutliveADeployment) {
  Metrics metrics;
  ModelProbe* probe = metrics.model("m");
  Metrics::request_finished(*probe, {200, Found::warm, {}, Millis(1), Millis(1), 1, 1});
  EXPECT_EQ(metrics.model("m"), probe) << "deployed again";
  Metrics::request_finished(*metrics.model("m"), {200, Found::warm, {}, Millis(1), Millis(1), 1, 1});
  EXPECT_EQ(value_of(metrics.scrape({}), R"(thaw_requests_total{class="2xx",model="m"})"), "2");
}

TEST(Metrics, AColdStartIsSplitByPhase) {
  Metrics metrics;
  metrics.cold_start("m", Millis(120), {{"sandbox", Millis(0), Millis(2)}, {"load", Millis(2), Millis(110)}});
  metrics.cold_start("m", Millis(80), {{"load", Millis(2), Millis(70)}});
  const std::string text = metrics.scrape({});
  EXPECT_EQ(value_of(text, R"(thaw_cold_start_seconds_count{model="m"})"), "2");
  EXPECT_EQ(value_of(text, R"(thaw_cold_start_seconds_bucket{model="m",le="0.1"})"), "1");
  EXPECT_EQ(value_of(text, R"(thaw_cold_start_phase_seconds_count{phase="sandbox"})"), "1");
  EXPECT_EQ(value_of(text, R"(thaw_cold_start_phase_seconds_count{phase="load"})"), "2");
}

TEST(Metrics, WeightsAreCountedByWhereTheyCameFrom) {
  Metrics metrics;
  metrics.cold_start_phase({"weights", Millis(1), Millis(700), wire::PhaseBytes{1, 2}});
  Levels levels;
  levels.weight_fills = 2;
  levels.weights_read_bytes = 1'000;
  levels.weights_resident_bytes = 50;
  levels.weights_left_bytes = 7;
  EXPECT_EQ(value_of(metrics.scrape(levels), "thaw_weights_fills"), "2");
  levels.weight_fills = 0;
  levels.weights_read_bytes = 3'000;
  const std::string text = metrics.scrape(levels);
  EXPECT_EQ(value_of(text, R"(thaw_cold_start_phase_seconds_count{phase="weights"})"), "1");
  EXPECT_EQ(value_of(text, "thaw_weights_fills"), "0");
  EXPECT_EQ(value_of(text, R"(thaw_weights_bytes_total{from="disk"})"), "3000");
  EXPECT_EQ(value_of(text, R"(thaw_weights_bytes_total{from="memory"})"), "50");
  EXPECT_EQ(value_of(text, R"(thaw_weights_bytes_total{from="left"})"), "7");
}

TEST(Metrics, WhatGoesWrongIsCountedByCause) {
  Metrics metrics;
  metrics.instance_down("m", "crashed");
  metrics.instance_down("m", "crashed");
  metrics.instance_stopped("m");
  metrics.refused("queue_full");
  metrics.request_retried("m");
  metrics.client_left();
  const std::string text = metrics.scrape({});
  EXPECT_EQ(value_of(text, R"(thaw_instance_failures_total{model="m",reason="crashed"})"), "2");
  EXPECT_EQ(value_of(text, R"(thaw_instance_stops_total{model="m"})"), "1");
  EXPECT_EQ(value_of(text, R"(thaw_refusals_total{cause="queue_full"})"), "1");
  EXPECT_EQ(value_of(text, R"(thaw_request_retries_total{model="m"})"), "1");
  EXPECT_EQ(value_of(text, "thaw_client_disconnects_total"), "1");
}

/// Prometheus's text format: each family has one HELP and one TYPE line, in front of its samples.
TEST(Metrics, TheTextIsWellFormed) {
  Metrics metrics;
  Metrics::request_finished(*metrics.model("m"), {200, Found::cold, Millis(1), Millis(2), Millis(3), 4, 5});
  Levels levels;
  levels.models = {{"m", 1, 1, 1, 1}};
  std::set<std::string> helped;
  std::set<std::string> typed;
  std::string family;
  for (const std::string& line : lines_of(metrics.scrape(levels))) {
    std::istringstream words(line);
    std::string hash;
    std::string kind;
    std::string name;
    words >> hash >> kind >> name;
    if (kind == "HELP" && hash == "#") {
      EXPECT_TRUE(helped.insert(name).second) << name << " has two HELP lines";
    } else if (kind == "TYPE" && hash == "#") {
      EXPECT_TRUE(typed.insert(name).second) << name << " has two TYPE lines";
      family = name;
    } else {
      EXPECT_EQ(line.rfind(family, 0), 0U) << line << " stands among the samples of " << family;
      EXPECT_EQ(line.rfind("thaw_", 0), 0U) << line;
    }
  }
  EXPECT_EQ(helped, typed);
  EXPECT_TRUE(typed.contains("thaw_requests_total"));
}

TEST(Metrics, RecordingIsThreadSafe) {
  Metrics metrics;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&metrics, t] {
      for (int i = 0; i < 500; ++i) {
        metrics.refused("queue_full");
        metrics.model("model-" + std::to_string(i % 10));
        if (t == 0 && i % 50 == 0) metrics.scrape({});
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(value_of(metrics.scrape({}), R"(thaw_refusals_total{cause="queue_full"})"), "2000");
}

}  // namespace
}  // namespace thaw::observe
