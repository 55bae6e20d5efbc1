#include "control/keep_alive.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace thaw::control {
namespace {

using base::Duration;
using base::Millis;
using base::Seconds;

/// A break-even of 4 s.
const PauseCosts kCosts{Seconds(1), Seconds(2)};

PauseHistogram pauses(std::initializer_list<std::pair<Duration, int>> all) {
  PauseHistogram histogram;
  for (const auto& [pause, times] : all) {
    for (int n = 0; n < times; ++n) histogram.note(pause);
  }
  return histogram;
}

TEST(KeepAlive, BreakEvenIsDownAndUpAndTheWait) {
  EXPECT_EQ((PauseCosts{Seconds(1), Seconds(2)}).break_even(), Seconds(1 + 2 + 1));
  EXPECT_EQ(reactive_plan(kCosts).keep, Seconds(4));
  EXPECT_FALSE(reactive_plan(kCosts).prewakes());
}

TEST(KeepAlive, CostsOfAPause) {
  const PausePlan keeps{Seconds(4), {}, {}};
  EXPECT_DOUBLE_EQ(cost_of_pause_s(keeps, Seconds(3), kCosts), 3);
  EXPECT_DOUBLE_EQ(cost_of_pause_s(keeps, Seconds(5), kCosts), 4 + 4);
  const PausePlan prewakes{Seconds(1), Seconds(60), Seconds(62)};
  EXPECT_DOUBLE_EQ(cost_of_pause_s(prewakes, Seconds(30), kCosts), 1 + 4);
  EXPECT_DOUBLE_EQ(cost_of_pause_s(prewakes, Seconds(59), kCosts), 1 + 3 + 0.5) << "it is on its way, and waited for";
  EXPECT_DOUBLE_EQ(cost_of_pause_s(prewakes, Seconds(61), kCosts), 1 + 3 + 1)
      << "down, up, and a second before it was needed";
  EXPECT_DOUBLE_EQ(cost_of_pause_s(prewakes, Seconds(100), kCosts), 1 + 3 + 2 + 4);
}

TEST(KeepAlive, IsAsLongAsItTakesToTheNextRequest) {
  const PausePlan plan = forecast_plan(pauses({{Seconds(1), 20}, {Millis(4500), 5}}), kCosts);
  EXPECT_GE(plan.keep, Millis(4500)) << "longer than the break-even";
  EXPECT_LE(plan.keep, Seconds(4) * kLongestKeep);
}

TEST(KeepAlive, IsNothingWhenNoneComes) {
  const PausePlan plan = forecast_plan(pauses({{Seconds(3600), 20}, {Seconds(1800), 20}, {Seconds(900), 20}}), kCosts);
  EXPECT_EQ(plan.keep, Duration{});
  EXPECT_FALSE(plan.prewakes());
}

TEST(KeepAlive, WakesAheadOfWhatComesAtItsTime) {
  // A start of 30 s, and a request every ten minutes: ready before it comes, gone before that.
  const PauseCosts slow{Seconds(1), Seconds(120)};
  const PausePlan plan = forecast_plan(pauses({{Seconds(600), 30}}), slow);
  EXPECT_EQ(plan.keep, Duration{});
  ASSERT_TRUE(plan.prewakes());
  EXPECT_LE(plan.from, Seconds(600));
  EXPECT_GE(plan.until, Seconds(600));
  EXPECT_GT(plan.from, Seconds(121));
}

TEST(KeepAlive, WakesNobodyAheadWhereWaitingIsCheaper) {
  EXPECT_FALSE(forecast_plan(pauses({{Seconds(600), 30}}), kCosts).prewakes())
      << "a bin of 600 s is a hundred seconds wide";
}

TEST(KeepAlive, OldPausesFade) {
  PauseHistogram histogram = pauses({{Seconds(5), 200}});
  for (int n = 0; n < 2000; ++n) histogram.note(Seconds(3600));
  EXPECT_LE(histogram.total(), PauseHistogram::kMemory);
  EXPECT_EQ(forecast_plan(histogram, kCosts).keep, Duration{});
}

TEST(KeepAlive, AnyPauseHasABinAndTheBinsAreInOrder) {
  for (const Duration pause : {Duration(-5), Duration(0), Duration(Millis(1)), Duration(std::chrono::hours(24 * 365))}) {
    PauseHistogram histogram;
    histogram.note(pause);
    EXPECT_EQ(histogram.total(), 1);
  }
  for (std::size_t bin = 1; bin < PauseHistogram::kBins; ++bin) {
    EXPECT_EQ(PauseHistogram::lower_s(bin), PauseHistogram::upper_s(bin - 1));
    EXPECT_GT(PauseHistogram::upper_s(bin), PauseHistogram::lower_s(bin));
  }
  EXPECT_GT(PauseHistogram::upper_s(PauseHistogram::kBins - 1), 2 * 24 * 3600);
}

TEST(Forecaster, IsReactiveUntilItKnowsSomething) {
  Forecaster forecaster;
  const PausePlan plan = forecaster.plan({}, kCosts);
  EXPECT_EQ(plan.keep, Seconds(4));
  EXPECT_FALSE(plan.prewakes());
}

TEST(Forecaster, ExpectsOfANewModelWhatOthersDid) {
  Forecaster forecaster;
  EXPECT_EQ(forecaster.plan(pauses({{Seconds(3600), 8}}), kCosts).keep, Duration{});
  for (int n = 0; n < 8; ++n) forecaster.note(Seconds(2), reactive_plan(kCosts), kCosts);
  EXPECT_GT(forecaster.plan(pauses({{Seconds(3600), 8}}), kCosts).keep, Seconds(1)) << "by now it is known itself";
}

TEST(Forecaster, WhatWasNotPlannedIsOnlyLearnt) {
  Forecaster forecaster;
  forecaster.note(Seconds(2), {Seconds(300), {}, {}}, {});
  EXPECT_EQ(forecaster.pauses().total(), 1);
  EXPECT_TRUE(forecaster.trusted());
}

/// What the header promises, against whoever knows the plan before choosing the pause: he looks for the one that costs
/// most beyond the reactive plan.
double worst_pause_s(const PausePlan& plan, const PauseCosts& costs) {
  double worst = 0, most = -1e9;
  std::vector<double> tried{0.01, 0.1, 1, 3600};
  for (const Duration edge : {plan.keep, plan.from, plan.until, costs.break_even()}) {
    for (const double off : {-0.01, 0.01, 0.5}) tried.push_back(std::max(base::to_s(edge) + off, 0.001));
  }
  for (const double pause_s : tried) {
    const Duration pause(static_cast<std::int64_t>(pause_s * 1e9));
    const double loss = cost_of_pause_s(plan, pause, costs) - cost_of_pause_s(reactive_plan(costs), pause, costs);
    if (loss > most) most = loss, worst = pause_s;
  }
  return worst;
}

struct Adversary {
  const char* name;
  double (*next_s)(const PausePlan& plan, const PauseCosts& costs, std::mt19937& random, int n);
};

class ForecasterBound : public testing::TestWithParam<Adversary> {};

TEST_P(ForecasterBound, HoldsForEverySequenceAndFromEveryMomentOn) {
  for (unsigned seed = 1; seed <= 20; ++seed) {
    std::mt19937 random(seed);
    const PauseCosts costs{Millis(200 + random() % 2000), Millis(300 + random() % 60000)};
    const double even_s = base::to_s(costs.break_even());
    Forecaster forecaster;
    double lead_s = 0, lowest_s = 0, highest_s = 0;  // (1 + share) * reactive - paid, so far
    for (int n = 0; n < 3000; ++n) {
      const PausePlan plan = forecaster.plan({}, costs);
      const Duration pause(static_cast<std::int64_t>(GetParam().next_s(plan, costs, random, n) * 1e9));
      lead_s += (1 + kForecastMayLose) * cost_of_pause_s(reactive_plan(costs), pause, costs) -
                cost_of_pause_s(plan, pause, costs);
      forecaster.note(pause, plan, costs);
      lowest_s = std::min(lowest_s, lead_s);
      highest_s = std::max(highest_s, lead_s);
      ASSERT_GE(lead_s, -(kLongestKeep - 1) * even_s - 1e-6) << "pause " << n << ", seed " << seed;
      ASSERT_GE(lead_s, highest_s - (kLongestKeep - 1 + Forecaster::kRemembered) * even_s - 1e-6)
          << "pause " << n << ", seed " << seed;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Sequences, ForecasterBound,
    testing::Values(Adversary{"KnowsThePlan", [](const PausePlan& plan, const PauseCosts& costs, std::mt19937&,
                                                 int) { return worst_pause_s(plan, costs); }},
                    Adversary{"TeachesThenBetrays",
                              [](const PausePlan& plan, const PauseCosts& costs, std::mt19937&, int n) {
                                return n / 100 % 2 == 0 ? base::to_s(costs.break_even()) * 1.5
                                                        : worst_pause_s(plan, costs);
                              }},
                    Adversary{"Regular", [](const PausePlan&, const PauseCosts&, std::mt19937&, int) { return 600.0; }},
                    Adversary{"RegularThenNot", [](const PausePlan&, const PauseCosts&, std::mt19937&,
                                                   int n) { return n % 600 < 300 ? 600.0 : 550.0 - n % 7 * 60; }},
                    Adversary{"Random",
                              [](const PausePlan&, const PauseCosts& costs, std::mt19937& random, int) {
                                return std::exponential_distribution<double>(0.5 /
                                                                             base::to_s(costs.break_even()))(random) +
                                       0.001;
                              }}),
    [](const testing::TestParamInfo<Adversary>& tested) { return tested.param.name; });

TEST(Forecaster, PaysLessThanTheReactiveRuleWhereThereIsSomethingToLearn) {
  const PauseCosts slow{Seconds(1), Seconds(120)};
  for (const auto& [pause, costs] :
       {std::pair{Seconds(600), slow}, std::pair{Seconds(5), kCosts}, std::pair{Seconds(3600), kCosts}}) {
    Forecaster forecaster;
    double paid_s = 0, reactive_s = 0;
    for (int n = 0; n < 200; ++n) {
      const PausePlan plan = forecaster.plan({}, costs);
      paid_s += cost_of_pause_s(plan, pause, costs);
      reactive_s += cost_of_pause_s(reactive_plan(costs), pause, costs);
      forecaster.note(pause, plan, costs);
    }
    EXPECT_LT(paid_s, 0.75 * reactive_s) << base::to_s(pause) << " s";
  }
}

}  // namespace
}  // namespace thaw::control
