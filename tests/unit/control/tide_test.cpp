#include "control/tide.h"

#include <gtest/gtest.h>

#include "control/keep_alive.h"

namespace thaw::control {
namespace {

using base::Duration;
using base::Millis;
using base::Seconds;
using base::TimePoint;

const TimePoint kBegin = TimePoint{} + Seconds(1000);

/// As many requests a second, evenly, from `from` until before `until`.
void flow(Tide& tide, double per_second, TimePoint from, TimePoint until) {
  const Duration every(static_cast<std::int64_t>(1e9 / per_second));
  for (TimePoint at = from; at < until; at += every) tide.note(at);
}

TEST(Tide, NothingComesBeforeAnythingCame) {
  const Tide tide;
  EXPECT_EQ(tide.lasts(1, Seconds(1000), kBegin), Duration{});
  EXPECT_EQ(tide.lasted(1, Seconds(1000), kBegin, kBegin + Seconds(10)), Duration{});
}

/// To a second's arrivals: ArrivalRate folds them once a second.
TEST(Tide, LastsAHalfLifeForEachTimeThatItIsTwiceWhatIsNeeded) {
  Tide tide;
  flow(tide, 100, kBegin, kBegin + Seconds(60));
  const TimePoint now = kBegin + Seconds(60);
  // 100 a second, of which a tenth: 10 a second. Once in 0.2 s is half of that, once in 0.05 s twice.
  EXPECT_NEAR(base::to_s(tide.lasts(0.1, Millis(200), now)), base::to_s(Tide::kHalfLife), 0.6);
  EXPECT_NEAR(base::to_s(tide.lasts(0.1, Millis(400), now)), 2 * base::to_s(Tide::kHalfLife), 0.6);
  EXPECT_EQ(tide.lasts(0.1, Millis(50), now), Duration{});
  EXPECT_EQ(tide.lasts(0.1, Millis(200), now + Tide::kHalfLife + Millis(200)), Duration{}) << "it has ebbed away";
}

TEST(Tide, WhatLastedIsSeenInHindsight) {
  Tide tide;
  flow(tide, 100, kBegin, kBegin + Seconds(20));
  const TimePoint from = kBegin + Seconds(10), until = kBegin + Seconds(40);
  tide.note(until);
  const double lasted_s = base::to_s(tide.lasted(0.1, Millis(200), from, until));
  EXPECT_NEAR(lasted_s, 10 + base::to_s(Tide::kHalfLife), 0.5) << "while it came, and a half-life";
  EXPECT_EQ(tide.lasted(0.1, Millis(200), from, from + Seconds(3)), Seconds(3)) << "all the time";
  EXPECT_EQ(tide.lasted(0.1, Millis(50), from, until), Duration{}) << "it never was enough";
}

TEST(Tide, WhatIsTooLongAgoIsForgotten) {
  Tide tide;
  flow(tide, 100, kBegin, kBegin + Seconds(20));
  const TimePoint later = kBegin + Seconds(20) + Tide::kSlice * static_cast<std::int64_t>(2 * Tide::kSlices);
  tide.note(later);
  EXPECT_EQ(tide.lasted(0.1, Millis(200), kBegin + Seconds(10), later), Duration{});
}

TEST(Preference, IsForWhatCostsLessOfLate) {
  Preference preference;
  EXPECT_FALSE(preference.known());
  for (int n = 0; n < 8; ++n) preference.note(2, 1);
  EXPECT_TRUE(preference.known());
  EXPECT_TRUE(preference.tide());
  for (int n = 0; n < 100; ++n) preference.note(2, 1);
  for (int n = 0; n < 60; ++n) preference.note(1, 2);
  EXPECT_FALSE(preference.tide()) << "what was won is forgotten in time";
}

}  // namespace
}  // namespace thaw::control
