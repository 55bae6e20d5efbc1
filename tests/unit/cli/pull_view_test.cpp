#include "cli/pull_view.h"

#include <gtest/gtest.h>
#include <boost/json.hpp>

#include "cli/terminal.h"

namespace thaw::cli {
namespace {

boost::json::object pull(const char* text) {
  return boost::json::parse(text).as_object();
}

TEST(PullLine, SaysHowFarItIsAndHowLongItTakes) {
  const auto one = pull(
      R"({"state":"pulling","total_bytes":2147483648,"done_bytes":1073741824,"percent":50,"bytes_per_second":104857600,"eta_s":9.3,"file":"model.gguf"})");
  EXPECT_EQ(pull_line(one, 80, false), " 50% ###############---------------  1GiB/2GiB  100MiB/s  10s  model.gguf");
  EXPECT_EQ(pull_line(one, 40, false), " 50% ####-----  1GiB/2GiB  100MiB/s  10s");
  EXPECT_EQ(pull_line(one, 20, false), " 50%  1GiB/2GiB  100MiB/s  10s");
  for (const std::size_t width : {40U, 60U, 80U, 200U})
    for (const bool utf8 : {false, true}) EXPECT_LE(display_width(pull_line(one, width, utf8)), width);
}

TEST(PullLine, SaysWhatItWaitsFor) {
  EXPECT_EQ(pull_line(pull(R"({"state":"queued"})"), 80, true), "waiting for other pulls");
  EXPECT_EQ(pull_line(pull(R"({"state":"resolving","total_bytes":0})"), 80, true), "asking what there is");
  EXPECT_EQ(pull_line(pull(R"({"state":"pulling","total_bytes":1024,"done_bytes":0,"percent":0,"eta_s":null})"), 30, false),
            "  0% ----------------  0B/1KiB");
}

}  // namespace
}  // namespace thaw::cli
