#include "control/warm_weights.h"

#include <gtest/gtest.h>

#include "control/state.h"

namespace thaw::control {
namespace {

TEST(WarmWeights, TheLongestUnusedLeaveFirst) {
  const Model a, b, c;
  WarmWeights warm;
  warm.used(a, 40, 100);
  warm.used(b, 40, 100);
  warm.used(a, 40, 100);
  warm.used(c, 40, 100);
  EXPECT_TRUE(warm.has(a));
  EXPECT_FALSE(warm.has(b));
  EXPECT_TRUE(warm.has(c));
  EXPECT_EQ(warm.bytes(), 80U);
}

TEST(WarmWeights, WhatMayLeaveGoesBeforeAll) {
  const Model a, b, c;
  WarmWeights warm;
  warm.used(a, 40, 100);
  warm.used(b, 40, 100);
  warm.may_leave(b);
  EXPECT_TRUE(warm.has(b)) << "as long as there is room";
  warm.used(c, 40, 100);
  EXPECT_TRUE(warm.has(a));
  EXPECT_FALSE(warm.has(b));
}

TEST(WarmWeights, LessRoomAndForgottenModels) {
  const Model a, b;
  WarmWeights warm;
  warm.used(a, 40, 100);
  warm.used(b, 40, 100);
  warm.resize(50);
  EXPECT_FALSE(warm.has(a));
  warm.forget(b);
  warm.forget(a);
  EXPECT_EQ(warm.bytes(), 0U);
  warm.used(a, 200, 100);
  EXPECT_FALSE(warm.has(a)) << "larger than all the room there is";
}

}  // namespace
}  // namespace thaw::control
