#include "control/warm_weights.h"

#include <gtest/gtest.h>

#include "control/state.h"

namespace thaw::control {
namespace {

const base::TimePoint kNow = base::TimePoint{} + base::Seconds(1000);

TEST(WarmWeights, TheLongestUnusedLeaveFirst) {
  const Model a, b, c;
  WarmWeights warm;
  warm.used(a, 40, 100, kNow);
  warm.used(b, 40, 100, kNow);
  warm.used(a, 40, 100, kNow);
  warm.used(c, 40, 100, kNow);
  EXPECT_TRUE(warm.has(a));
  EXPECT_FALSE(warm.has(b));
  EXPECT_TRUE(warm.has(c));
  EXPECT_EQ(warm.bytes(), 80U);
}

TEST(WarmWeights, WhatMayLeaveGoesBeforeAll) {
  const Model a, b, c;
  WarmWeights warm;
  warm.used(a, 40, 100, kNow);
  warm.used(b, 40, 100, kNow);
  warm.may_leave(b);
  EXPECT_TRUE(warm.has(b)) << "as long as there is room";
  warm.used(c, 40, 100, kNow);
  EXPECT_TRUE(warm.has(a));
  EXPECT_FALSE(warm.has(b));
}

TEST(WarmWeights, LessRoomAndForgottenModels) {
  const Model a, b;
  WarmWeights warm;
  warm.used(a, 40, 100, kNow);
  warm.used(b, 40, 100, kNow);
  warm.resize(50);
  EXPECT_FALSE(warm.has(a));
  warm.forget(b);
  warm.forget(a);
  EXPECT_EQ(warm.bytes(), 0U);
  warm.used(a, 200, 100, kNow);
  EXPECT_FALSE(warm.has(a)) << "larger than all the room there is";
}

TEST(WarmWeights, SparesWhatNobodyUsedOfLate) {
  const Model a, b;
  WarmWeights warm;
  warm.used(a, 40, 100, kNow);
  warm.used(b, 40, 100, kNow + base::Seconds(10));
  EXPECT_TRUE(warm.spares(20, 100, kNow - base::Seconds(1))) << "there is room";
  EXPECT_FALSE(warm.spares(30, 100, kNow - base::Seconds(1))) << "all of it was used since";
  EXPECT_TRUE(warm.spares(30, 100, kNow + base::Seconds(1))) << "a was not";
  EXPECT_FALSE(warm.spares(70, 100, kNow + base::Seconds(1))) << "a is not enough";
  warm.may_leave(b);
  EXPECT_TRUE(warm.spares(60, 100, kNow - base::Seconds(1))) << "b is needed no more";
}

}  // namespace
}  // namespace thaw::control
