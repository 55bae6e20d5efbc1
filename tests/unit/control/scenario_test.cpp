#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "unit/control/scenario.h"

namespace thaw::control::test {

namespace {

std::vector<std::string> scenario_files() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(THAW_SOURCE_DIR "/tests/scenarios")) {
    if (entry.path().extension() == ".txt") names.push_back(entry.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

class ScenarioTest : public testing::TestWithParam<std::string> {};

}  // namespace

TEST_P(ScenarioTest, plays_as_written) {
  EXPECT_EQ(play_scenario(THAW_SOURCE_DIR "/tests/scenarios/" + GetParam() + ".txt"), "");
}

INSTANTIATE_TEST_SUITE_P(Scenarios, ScenarioTest, testing::ValuesIn(scenario_files()),
                         [](const testing::TestParamInfo<std::string>& file) { return file.param; });

// The runner itself must be able to fail.

TEST(ScenarioRunner, a_missing_action_fails) {
  const std::string outcome = play_scenario_text("x", "node n cpu0=1GiB\nmodel a memory=1MiB\n0s -> start 1 a n/cpu0\n");
  EXPECT_NE(outcome.find("x:3: expected 0s -> start 1"), std::string::npos) << outcome;
}

TEST(ScenarioRunner, an_unexpected_action_fails) {
  const std::string outcome = play_scenario_text("x", "node n cpu0=1GiB\nmodel a memory=1MiB\n0s request 1 a\n");
  EXPECT_NE(outcome.find("there was 0s -> start 1 a n/cpu0"), std::string::npos) << outcome;
}

TEST(ScenarioRunner, an_action_at_another_time_fails) {
  const std::string outcome =
      play_scenario_text("x", "node n cpu0=1GiB\nmodel a memory=1MiB\n0s request 1 a\n1s -> start 1 a n/cpu0\n");
  EXPECT_NE(outcome.find("x:4: expected 1s -> start 1 a n/cpu0"), std::string::npos) << outcome;
}

TEST(ScenarioRunner, a_typing_mistake_fails) {
  EXPECT_EQ(play_scenario_text("x", "nodes n cpu0=1GiB\n"), "x:1: no event 'nodes'");
  EXPECT_EQ(play_scenario_text("x", "node n cpu0=1GiB\nmodel a memory=1MiB colour=red\n"), "x:2: a model has no 'colour'");
}

}  // namespace thaw::control::test
