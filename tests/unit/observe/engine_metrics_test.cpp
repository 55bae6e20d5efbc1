#include "observe/engine_metrics.h"

#include <gtest/gtest.h>

namespace thaw::observe {
namespace {

std::string labelled(std::string_view text) {
  EngineMetrics metrics;
  metrics.add(text, "m", 7);
  return metrics.text();
}

TEST(EngineMetrics, EverySampleSaysWhoseItIs) {
  EXPECT_EQ(labelled("up 1\n"), "up{model=\"m\",instance=\"7\"} 1\n");
  EXPECT_EQ(labelled("vllm:running{model_name=\"q\",a=\"x,} \\\"y\"} 2.5e3 1700000000000\r\n"),
            "vllm:running{model=\"m\",instance=\"7\",model_name=\"q\",a=\"x,} \\\"y\"} 2.5e3 1700000000000\n");
  EXPECT_EQ(labelled("a{} NaN\nb{ } +Inf"), "a{model=\"m\",instance=\"7\"} NaN\nb{model=\"m\",instance=\"7\"} +Inf\n");
  EXPECT_EQ(labelled("a{model=\"theirs\",instance=\"x\"} 1\n"),
            "a{model=\"m\",instance=\"7\",exported_model=\"theirs\",exported_instance=\"x\"} 1\n");
}

TEST(EngineMetrics, FamiliesStandTogetherWithTheFirstHelpAndType) {
  const char* one =
      "# HELP t Time.\n# TYPE t histogram\nt_bucket{le=\"1\"} 1\nt_sum 0.5\nt_count 1\n# TYPE u counter\nu_total 3\n";
  EngineMetrics metrics;
  metrics.add(one, "a", 1);
  metrics.add("# HELP t Other words.\nt_bucket{le=\"1\"} 4\nt_other 9\n", "b", 2);
  EXPECT_EQ(metrics.text(),
            "# HELP t Time.\n# TYPE t histogram\n"
            "t_bucket{model=\"a\",instance=\"1\",le=\"1\"} 1\nt_sum{model=\"a\",instance=\"1\"} 0.5\n"
            "t_count{model=\"a\",instance=\"1\"} 1\nt_bucket{model=\"b\",instance=\"2\",le=\"1\"} 4\n"
            "t_other{model=\"b\",instance=\"2\"} 9\n"
            "# TYPE u counter\nu_total{model=\"a\",instance=\"1\"} 3\n");
}

TEST(EngineMetrics, WhatIsNoMetricIsLeftOut) {
  for (const char* text : {"<html>", "a", "a{", "a{b", "a{b=\"c} 1", "a{b=\"c\\", "a{b=c} 1", "a{=\"c\"} 1",
                           "a{b=\"c\"}1", "a one", " a 1", "# TYPE\n# HELP \n# nothing\n\n\n"})
    EXPECT_EQ(labelled(text), "") << text;
}

TEST(EngineMetrics, HasBounds) {
  EngineMetrics metrics;
  std::string many;
  for (int i = 0; i < 1'000; ++i)
    many += "metric_" + std::to_string(i) + "{text=\"" + std::string(900, 'x') + "\"} 1\n";
  for (std::uint64_t i = 0; i < 30; ++i) metrics.add(many, "m", i);
  EXPECT_LT(metrics.text().size(), EngineMetrics::kMaxBytes + 2'000);
  EXPECT_GT(metrics.text().size(), EngineMetrics::kMaxBytes / 2);
}

}  // namespace
}  // namespace thaw::observe
