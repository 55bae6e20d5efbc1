#include <gtest/gtest.h>
#include <boost/json.hpp>

#include "cli/top_view.h"
#include "unit/cli/app_fixture.h"
#include "unit/cli/fake_server.h"

namespace thaw::cli {
namespace {

namespace json = boost::json;

constexpr const char* kModels = R"({"models":[
  {"name":"busy","state":"ready","ready":2,"in_flight":3,"queued":1,"cold_starts":7},
  {"name":"asleep","state":"asleep"},
  {"name":"resting","state":"standby","standby":1,"cold_starts":9}]})";

std::string instances(int served) {
  return R"({"instances":[{"id":1,"model":"busy","served":)" + std::to_string(served) +
         R"(,"in_flight":3,"device_bytes":1073741824},{"id":2,"model":"resting","served":4,"device_bytes":0}],
         "devices":[{"node":"local","id":"cpu","reserved_bytes":1073741824,"budget_bytes":2147483648}]})";
}

TopSample sample_of(int served, const TopSample* before = nullptr, base::Duration elapsed = {}) {
  return read_sample(json::parse(kModels).as_object(), json::parse(instances(served)).as_object(), before, elapsed);
}

std::string text_of_lines(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

TEST(Top, RatesAreWhatBeganSinceTheSampleBefore) {
  const TopSample first = sample_of(10);
  EXPECT_EQ(first.models.at(0).per_second, 0) << "nothing is known of the time before";
  const TopSample second = sample_of(30, &first, base::Seconds(4));
  EXPECT_DOUBLE_EQ(second.models.at(0).per_second, 5);
  const TopSample restarted = sample_of(1, &second, base::Seconds(1));
  EXPECT_EQ(restarted.models.at(0).per_second, 0) << "a counter that went back is no negative rate";
}

TEST(Top, ShowsWhoIsActiveAndOnKeyThoseAsleep) {
  TopView view;
  std::string text = text_of_lines(render_top(sample_of(10), view, 0, 0, {}));
  EXPECT_TRUE(contains(text, "3 models, 2 replicas up, 1 in standby; 3 requests running, 1 queued"));
  EXPECT_TRUE(contains(text, "local/cpu        ###############............... 1GiB of 2GiB")) << text;
  EXPECT_LT(text.find("busy"), text.find("resting"));
  EXPECT_FALSE(contains(text, "asleep  "));
  EXPECT_TRUE(view.press('a'));
  EXPECT_TRUE(contains(text_of_lines(render_top(sample_of(10), view, 0, 0, {})), "asleep   asleep"));
}

TEST(Top, KeysSortAndEnd) {
  TopView view;
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(view.press('s'));
  EXPECT_EQ(view.order, TopOrder::cold_starts);
  std::string text = text_of_lines(render_top(sample_of(10), view, 0, 0, {}));
  EXPECT_LT(text.find("resting"), text.find("busy"));
  EXPECT_TRUE(view.press('r'));
  text = text_of_lines(render_top(sample_of(10), view, 0, 0, {}));
  EXPECT_LT(text.find("busy"), text.find("resting"));
  EXPECT_TRUE(view.press('s'));
  EXPECT_EQ(view.order, TopOrder::activity);
  EXPECT_FALSE(view.press('q'));
}

TEST(Top, KeepsWithinTheScreen) {
  Terminal terminal;
  terminal.utf8 = true;
  terminal.colours = true;
  const auto lines = render_top(sample_of(10), {}, 4, 20, terminal);
  ASSERT_EQ(lines.size(), 4U);
  for (const std::string& line : lines) {
    std::string plain;  // without styles
    for (std::size_t i = 0; i < line.size(); ++i) {
      if (line[i] == '\x1b')
        i = line.find('m', i);
      else
        plain += line[i];
    }
    EXPECT_LE(display_width(plain), 20U) << plain;
  }
  EXPECT_TRUE(contains(lines[1], "\x1b[0m") || contains(lines[1], "\x1b[m"))
      << "a style that was begun ends, though its text is cut";
}

TEST_F(App, TopIntoAPipePrintsSoManyLooks) {
  FakeServer server([](const FakeServer::Request& request, FakeServer::Connection& connection) {
    connection.answer(200, request.target == "/admin/v1/models" ? kModels : instances(1));
  });
  const Outcome outcome = run({"top", "--count", "2", "--interval", "100ms"}, server.url());
  EXPECT_EQ(outcome.code, kExitOk) << outcome.err;
  EXPECT_EQ(server.requests().size(), 4U);
  EXPECT_NE(outcome.out.find("MODEL"), outcome.out.rfind("MODEL"));
  EXPECT_FALSE(contains(outcome.out, "\x1b"));
  EXPECT_EQ(run({"top", "--interval", "1ms"}, server.url()).code, kExitUsage);
  EXPECT_EQ(run({"top"}).code, kExitUnreachable);
}

}  // namespace
}  // namespace thaw::cli
