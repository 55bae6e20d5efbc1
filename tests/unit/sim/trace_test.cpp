#include "sim/trace.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "sim/generate.h"
#include "sim/random.h"

namespace thaw::sim {
namespace {

using base::Millis;
using base::Seconds;

Trace read(const std::string& csv, const Columns& columns = {}) {
  auto trace = read_trace(csv, "t.csv", columns);
  EXPECT_TRUE(trace.ok()) << (trace.ok() ? "" : trace.error().message);
  return trace.ok() ? std::move(trace).value() : Trace{};
}

std::string error_of(const std::string& csv, const Columns& columns = {}) {
  const auto trace = read_trace(csv, "t.csv", columns);
  EXPECT_FALSE(trace.ok());
  return trace.ok() ? "" : trace.error().message;
}

TEST(Trace, AzuresColumnsAreFoundAndTimesBecomeRelative) {
  const Trace trace = read(
      "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:17:03.9799600,4808,10\r\n2023-11-16 "
      "18:17:04.0319600,3180,8\r\n");
  ASSERT_EQ(trace.requests.size(), 2U);
  EXPECT_EQ(trace.requests[0].at, base::Duration{});
  EXPECT_EQ(trace.requests[1].at, Millis(52));
  EXPECT_EQ(trace.requests[1].input_tokens, 3180U);
  EXPECT_EQ(trace.requests[1].output_tokens, 8U);
  EXPECT_EQ(trace.models, std::vector<std::string>{"model"});
  EXPECT_FALSE(trace.durations);
}

TEST(Trace, NamedColumnsWinAndRowsNeedNoOrder) {
  const Trace trace =
      read("when,who,took,model\n12.5,\"b, c\",3.5,x\n10,\"a\"\"q\"\"\",1,y\n", {"when", "who", "", "", "took"});
  ASSERT_EQ(trace.requests.size(), 2U);
  EXPECT_TRUE(trace.durations);
  EXPECT_EQ(trace.models[trace.requests[0].model], "a\"q\"");
  EXPECT_EQ(trace.models[trace.requests[1].model], "b, c");
  EXPECT_EQ(trace.requests[1].at, Millis(2500));
  EXPECT_EQ(trace.requests[1].duration, Millis(3500));
}

TEST(Trace, RowsThatNeverRanAreCountedAndLeftOut) {
  const Trace trace = read("time,model,duration\n0,a,1\n1,,2\n2,b,\n3,a,4\n");
  EXPECT_EQ(trace.requests.size(), 2U);
  EXPECT_EQ(trace.skipped, 2U);
}

TEST(Trace, ErrorsNameThePlaceAndTheRemedy) {
  EXPECT_EQ(error_of(""), "t.csv: empty; the first line must name the columns");
  EXPECT_EQ(error_of("time,input_tokens\n0,1\nnoon,2\n"),
            "t.csv:3: \"noon\" is no time; write seconds, or a date like 2023-11-16 18:17:03.97");
  EXPECT_EQ(error_of("time,input_tokens\n0,many\n"), "t.csv:2: \"many\" is no number");
  EXPECT_EQ(error_of("time,input_tokens\n0,-1\n"), "t.csv:2: \"-1\" is out of range");
  EXPECT_EQ(error_of("time,input_tokens\n0,\"1\n"), "t.csv:2: a quoted field has no end");
  EXPECT_EQ(error_of("time,input_tokens\n"), "t.csv: it has no requests");
  EXPECT_NE(error_of("when,tokens\n0,1\n").find("name it with --time-col (there are when, tokens)"), std::string::npos);
  EXPECT_EQ(error_of("time,x\n0,1\n", {"", "", "y", "", ""}),
            "t.csv:1: there is no column \"y\" for input tokens; there are time, x");
  EXPECT_NE(error_of("time,x\n0,1\n").find("--duration-col"), std::string::npos);
}

TEST(Trace, TimesOfManyKinds) {
  const auto time = [](const char* text) { return parse_time(text).value(); };
  EXPECT_EQ(time("1.5"), Millis(1500));
  EXPECT_EQ(time("1970-01-01 00:00:01"), Seconds(1));
  EXPECT_EQ(time("1970-01-01T01:00:00.25+01:00"), Millis(250));
  EXPECT_EQ(time("1970-01-02T00:00:00Z"), Seconds(86'400));
  EXPECT_EQ(time("2024-02-29 12:00:00") - time("2024-02-28 12:00:00"), Seconds(86'400));
  for (const char* wrong : {"", "-1", "2023-13-01 00:00:00", "2023-02-29 00:00:00", "2023-01-01", "2023-01-01 25:00:00",
                            "1e300", "nan", "5 s"})
    EXPECT_FALSE(parse_time(wrong).ok()) << wrong;
}

TEST(Spread, IsTheSameForASeedAndFollowsZipf) {
  Trace one;
  one.models = {"model"};
  one.requests.resize(20'000);
  const Trace a = spread(one, 10, 1.0, 7), b = spread(one, 10, 1.0, 7), c = spread(one, 10, 1.0, 8);
  std::vector<double> count(10);
  bool same = true, other_seed_same = true;
  for (std::size_t n = 0; n < a.requests.size(); ++n) {
    same = same && a.requests[n].model == b.requests[n].model;
    other_seed_same = other_seed_same && a.requests[n].model == c.requests[n].model;
    ++count[a.requests[n].model];
  }
  EXPECT_TRUE(same);
  EXPECT_FALSE(other_seed_same);
  EXPECT_NEAR(count[0] / count[1], 2.0, 0.2);
  EXPECT_NEAR(count[0] / count[4], 5.0, 0.7);
}

TEST(Spread, IsWrittenAsModelsLawSeed) {
  const Spread spread = parse_spread("100:zipf:7", 1).value();
  EXPECT_EQ(spread.models, 100U);
  EXPECT_EQ(spread.exponent, 1.0);
  EXPECT_EQ(spread.seed, 7U);
  EXPECT_EQ(parse_spread("5:zipf(1.2):9", 1).value().exponent, 1.2);
  EXPECT_EQ(parse_spread("5:zipf", 3).value().seed, 3U);
  for (const char* wrong :
       {"", "100", "0:zipf:1", "100:even:1", "100:zipf(x):1", "100:zipf:", "x:zipf:1", "100:zipf:1:2"})
    EXPECT_FALSE(parse_spread(wrong, 1).ok()) << wrong;
}

TEST(Random, IsTheSameEverywhere) {
  Random random(42);
  EXPECT_EQ(random.next(), 1546998764402558742ULL);
  Random again(42);
  again.next();
  EXPECT_EQ(random.next(), again.next());
}

TEST(Random, DistributionsHaveTheirMoments) {
  Random random(1);
  constexpr int kDraws = 200'000;
  for (const double shape : {0.25, 1.0, 4.0}) {
    double sum = 0, squares = 0;
    for (int n = 0; n < kDraws; ++n) {
      const double x = random.gamma(shape, 2.0);
      sum += x;
      squares += x * x;
    }
    const double mean = sum / kDraws, variance = squares / kDraws - mean * mean;
    EXPECT_NEAR(mean, shape * 2, shape * 2 * 0.03) << shape;
    EXPECT_NEAR(variance, shape * 4, shape * 4 * 0.06) << shape;
  }
}

TEST(Generate, MakesAboutAsManyAsAskedForWithTheAskedVariation) {
  Synthetic s;
  s.models = 1;
  s.requests = 40'000;
  for (const double cv : {1.0, 3.0}) {
    s.cv = cv;
    const Trace trace = generate(s);
    EXPECT_NEAR(static_cast<double>(trace.requests.size()), s.requests, s.requests * 0.08 * cv);
    double sum = 0, squares = 0;
    for (std::size_t n = 1; n < trace.requests.size(); ++n) {
      const double gap = base::to_s(trace.requests[n].at - trace.requests[n - 1].at);
      sum += gap;
      squares += gap * gap;
    }
    const double count = static_cast<double>(trace.requests.size() - 1), mean = sum / count;
    EXPECT_NEAR(std::sqrt(squares / count - mean * mean) / mean, cv, cv * 0.1);
  }
}

TEST(Generate, TheDayRisesAndFalls) {
  Synthetic s;
  s.models = 1;
  s.span = std::chrono::hours(24);
  s.diurnal = 1.0;
  const Trace trace = generate(s);
  const auto before_noon = std::count_if(trace.requests.begin(), trace.requests.end(),
                                         [](const TraceRequest& r) { return r.at < std::chrono::hours(12); });
  // 12 h + 2 * 24 h / 2 pi of 24 h: the sine is positive in the first half.
  EXPECT_NEAR(static_cast<double>(before_noon) / static_cast<double>(trace.requests.size()), 0.5 + 1 / 3.14159, 0.03);
}

TEST(Generate, IsWrittenAsKeysAndValues) {
  const Synthetic s =
      parse_synthetic("requests=5,models=3,span=24h,cv=4,zipf=1.1,diurnal=0.5,input=7,output=8,seed=9", 1).value();
  EXPECT_EQ(s.requests, 5U);
  EXPECT_EQ(s.span, std::chrono::hours(24));
  EXPECT_EQ(s.cv, 4);
  EXPECT_EQ(s.seed, 9U);
  EXPECT_EQ(parse_synthetic("models=3", 5).value().seed, 5U);
  for (const char* wrong : {"model=3", "models", "models=", "models=0", "cv=x", "span=5", "zipf=-1"})
    EXPECT_FALSE(parse_synthetic(wrong, 1).ok()) << wrong;
}

}  // namespace
}  // namespace thaw::sim
