// The table of transitions is sound, and docs/tiers.md shows it as it is.
#include "control/transitions.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>

namespace thaw::control {

namespace {

constexpr Phase kAll[] = {Phase::starting, Phase::ready,   Phase::freezing, Phase::standby,
                          Phase::waking,   Phase::imaging, Phase::stopping, Phase::gone};

std::string drawing() {
  std::string text = "```mermaid\nstateDiagram-v2\n  [*] --> starting: StartInstance\n  [*] --> imaging: TakeSnapshot\n";
  for (const Transition& t : transitions())
    text += std::string("  ") + to_string(t.from) + " --> " + to_string(t.to) + ": " + to_string(t.by) + "\n";
  return text + "  gone --> [*]\n```\n";
}

std::string states_table() {
  std::string text = "| state | the books hold for it | deadline |\n|---|---|---|\n";
  for (const PhaseRule& r : phase_rules())
    text += std::string("| `") + to_string(r.phase) + "` | " + r.holds + " | " + (*r.deadline == 0 ? "none" : r.deadline) + " |\n";
  return text;
}

std::string transitions_table() {
  std::string text = "| from | by | to | and then |\n|---|---|---|---|\n";
  for (const Transition& t : transitions())
    text += std::string("| `") + to_string(t.from) + "` | " + to_string(t.by) + " | `" + to_string(t.to) + "` | " + t.then + " |\n";
  return text;
}

/// What stands between <!-- NAME --> and <!-- /NAME -->; with THAW_WRITE_DOCS=1 it is replaced by `wanted` first.
std::string block(std::string& page, const std::string& name, const std::string& wanted) {
  const std::string begin = "<!-- " + name + " -->\n", end = "<!-- /" + name + " -->";
  const std::size_t from = page.find(begin), to = page.find(end);
  if (from == std::string::npos || to == std::string::npos) return "(no such block)";
  const std::size_t first = from + begin.size();
  if (std::getenv("THAW_WRITE_DOCS") != nullptr) {
    page.replace(first, to - first, wanted);
    return wanted;
  }
  return page.substr(first, to - first);
}

}  // namespace

TEST(Transitions, are_one_for_a_state_and_a_trigger) {
  std::set<std::pair<Phase, Trigger>> seen;
  for (const Transition& t : transitions()) {
    EXPECT_TRUE(seen.emplace(t.from, t.by).second) << to_string(t.from) << " " << to_string(t.by);
    EXPECT_EQ(find_transition(t.from, t.by), &t);
  }
  EXPECT_EQ(find_transition(Phase::standby, Trigger::up), nullptr);
  EXPECT_EQ(phase_rules().count, std::size(kAll));
}

TEST(Transitions, lead_from_everywhere_to_the_end) {
  for (const Phase from : kAll) {
    if (from == Phase::gone) continue;
    EXPECT_NE(find_transition(from, Trigger::vanished), nullptr) << to_string(from);
    if (from == Phase::stopping) continue;
    const Transition* const stop = find_transition(from, Trigger::stop);
    ASSERT_NE(stop, nullptr) << to_string(from);
    EXPECT_EQ(stop->to, Phase::stopping);
    const Transition* const down = find_transition(from, Trigger::down);
    ASSERT_NE(down, nullptr) << to_string(from);
    EXPECT_EQ(down->to, Phase::stopping);
  }
  for (const Transition& t : transitions()) EXPECT_NE(t.from, Phase::gone);
}

TEST(Transitions, have_an_edge_for_a_deadline_that_passes_wherever_the_node_must_act) {
  for (const Phase phase : {Phase::starting, Phase::freezing, Phase::waking, Phase::imaging})
    EXPECT_NE(find_transition(phase, Trigger::overdue), nullptr) << to_string(phase);
}

TEST(Transitions, are_drawn_in_the_documentation_as_they_are) {
  const std::string path = std::string(THAW_SOURCE_DIR) + "/docs/tiers.md";
  std::ifstream file(path);
  ASSERT_TRUE(file) << path;
  std::stringstream stream;
  stream << file.rdbuf();
  std::string page = stream.str();
  const char* const remedy = "run unit-control with THAW_WRITE_DOCS=1 to write it anew";
  EXPECT_EQ(block(page, "drawing", drawing()), drawing()) << remedy;
  EXPECT_EQ(block(page, "states", states_table()), states_table()) << remedy;
  EXPECT_EQ(block(page, "transitions", transitions_table()), transitions_table()) << remedy;
  if (std::getenv("THAW_WRITE_DOCS") != nullptr) std::ofstream(path) << page;
}

}  // namespace thaw::control
