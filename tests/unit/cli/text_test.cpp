#include <algorithm>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "cli/gantt.h"
#include "cli/table.h"
#include "cli/terminal.h"
#include "cli/timing.h"

namespace thaw::cli {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

Environment environment_of(std::map<std::string, std::string> variables) {
  return [variables = std::move(variables)](const char* name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    if (found == variables.end()) return std::nullopt;
    return found->second;
  };
}

TEST(Table, AlignsColumnsAndLeavesNoTrailingSpaces) {
  Table table({{"NAME"}, {"COUNT", Table::Align::right}, {"NOTE"}});
  table.add({{"a"}, {"7"}, {"first"}});
  table.add({{"longer-name"}, {"12345678"}, {""}});
  EXPECT_EQ(table.render(false),
            "NAME            COUNT  NOTE\n"
            "a                   7  first\n"
            "longer-name  12345678\n");
}

TEST(Table, CountsCodePointsAndNotBytesOrColours) {
  Table table({{"N"}, {"X"}});
  table.add({{"häß", Style::green}, {"1"}});
  table.add({{"abc"}, {"2"}});
  EXPECT_EQ(table.render(false), "N    X\nhäß  1\nabc  2\n");
  EXPECT_EQ(table.render(true), "\x1b[2mN\x1b[0m    \x1b[2mX\x1b[0m\n\x1b[32mhäß\x1b[0m  1\nabc  2\n");
}

TEST(Terminal, LocaleDecidesAboutBlocks) {
  EXPECT_TRUE(detect_terminal(environment_of({{"LANG", "en_GB.UTF-8"}})).utf8);
  EXPECT_TRUE(detect_terminal(environment_of({{"LC_ALL", ""}, {"LC_CTYPE", "C.utf8"}})).utf8);
  EXPECT_FALSE(detect_terminal(environment_of({{"LC_ALL", "C"}, {"LANG", "en_GB.UTF-8"}})).utf8);
  EXPECT_FALSE(detect_terminal(environment_of({})).utf8);
}

TEST(Terminal, DropsWhatCouldRewriteTheScreen) {
  EXPECT_EQ(without_controls("a\x1b]0;title\x07\x1b[2Jb\tc\nd\r\x7f é"), "a]0;title[2Jb\tc\nd é");
}

TEST(Terminal, FormatsForPeople) {
  EXPECT_EQ(format_age(milliseconds(300)), "now");
  EXPECT_EQ(format_age(seconds(-5)), "now");
  EXPECT_EQ(format_age(seconds(59)), "59s");
  EXPECT_EQ(format_age(seconds(150)), "2m");
  EXPECT_EQ(format_age(hours(30)), "30h");
  EXPECT_EQ(format_age(hours(72)), "3d");
  EXPECT_EQ(format_ago(milliseconds(300)), "just now");
  EXPECT_EQ(format_ago(seconds(150)), "2m ago");
  EXPECT_EQ(format_ms(0.42), "0.4 ms");
  EXPECT_EQ(format_ms(132.4), "132 ms");
  EXPECT_EQ(format_ms(1250), "1.25 s");
  EXPECT_EQ(format_ms(125'000), "2m5s");
}

TEST(Gantt, PutsEachPhaseOnOneAxisInOrderOfStart) {
  const auto lines = lines_of(render_gantt({{"load", 50, 50}, {"sandbox", 0, 50}}, false));
  ASSERT_EQ(lines.size(), 3U);
  const std::size_t columns = kChartWidth - 7 - 16 - 6;
  const std::size_t half = (columns + 1) / 2;  // std::lround rounds the odd half column up
  EXPECT_EQ(lines[0], "phase       start      took");
  EXPECT_EQ(lines[1], "sandbox    0.0 ms     50 ms  " + std::string(half, '#'));
  EXPECT_EQ(lines[2], "load        50 ms     50 ms  " + std::string(half, ' ') + std::string(columns - half, '#'));
}

TEST(Gantt, NeverPassesTheWidthAndAlwaysShowsABar) {
  std::vector<TimelinePhase> phases{{"a phase with a name far too long to be shown", 0, 1'000'000},
                                    {"blink", 999'999.9, 0.0},
                                    {"late", 1'000'000, 0}};
  for (const bool utf8 : {false, true}) {
    const auto lines = lines_of(render_gantt(phases, utf8));
    ASSERT_EQ(lines.size(), 4U);
    for (const std::string& line : lines) EXPECT_LE(display_width(line), kChartWidth) << line;
    const std::string block = utf8 ? "█" : "#";
    for (std::size_t i = 1; i < lines.size(); ++i) EXPECT_TRUE(lines[i].ends_with(block)) << lines[i];
  }
}

TEST(Gantt, CopesWithNothingZeroesAndTooMuch) {
  EXPECT_EQ(render_gantt({}, false), "");
  const auto zero = lines_of(render_gantt({{"x", 0, 0}}, false));
  ASSERT_EQ(zero.size(), 2U);
  EXPECT_EQ(std::count(zero[1].begin(), zero[1].end(), '#'), 1);
  const auto many = lines_of(render_gantt(std::vector<TimelinePhase>(kMaxChartPhases + 5, {"p", 1, 1}), false));
  EXPECT_EQ(many.size(), kMaxChartPhases + 2);
  EXPECT_EQ(many.back(), "and 5 more");
}

TEST(Timing, SaysWhatIsKnownAndNoMore) {
  RequestRecord record;
  record.total_ms = 20;
  EXPECT_EQ(render_timing(record, false), "tokens       0 in, 0 out\nstart        warm\ntotal        20 ms\n");
  record.ttft_ms = 10;
  record.completion_tokens = 2;
  record.queued_ms = 5;
  record.attempts = 2;
  EXPECT_EQ(render_timing(record, false),
            "tokens       0 in, 2 out, 100.0 tokens/s\nstart        warm, waited 5.0 ms for a replica\n"
            "first token  10 ms\ntotal        20 ms\nattempts     2 (the first failed and was retried)\n");
}

TEST(Timing, NoRateWithoutTime) {
  EXPECT_FALSE(tokens_per_second(1, 0, 100).has_value());
  EXPECT_FALSE(tokens_per_second(10, 100, 100).has_value());
  EXPECT_FALSE(tokens_per_second(16, 49, 49.03).has_value()) << "they came in one piece: that is no rate";
  EXPECT_DOUBLE_EQ(tokens_per_second(11, 100, 1100).value(), 10);
}

}  // namespace
}  // namespace thaw::cli
