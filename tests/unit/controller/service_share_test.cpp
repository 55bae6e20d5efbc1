#include "controller/service_share.h"

#include <gtest/gtest.h>

namespace thaw::controller {
namespace {

using base::Millis;

base::TimePoint at(int ms) { return base::TimePoint(Millis(1000 + ms)); }

TEST(ServiceShare, ARequestAloneHasAllOfIt) {
  ServiceShare share;
  const double mark = share.enter(at(0));
  EXPECT_EQ(share.leave(at(70), mark), Millis(70));
  EXPECT_EQ(share.requests(), 0U);
}

// a: |==========|        0..100
// b:      |==========|  50..150
TEST(ServiceShare, SharesAddUpToTheBusyTime) {
  ServiceShare share;
  const double a = share.enter(at(0));
  const double b = share.enter(at(50));
  const base::Duration first = share.leave(at(100), a);
  const base::Duration second = share.leave(at(150), b);
  EXPECT_EQ(first, Millis(75));
  EXPECT_EQ(second, Millis(75));
  const double later = share.enter(at(1000));  // idle time is nobody's
  EXPECT_EQ(share.leave(at(1010), later), Millis(10));
}

TEST(ServiceShare, AClockThatStandsStillGivesNothing) {
  ServiceShare share;
  const double mark = share.enter(at(5));
  EXPECT_EQ(share.leave(at(5), mark), Millis(0));
  EXPECT_EQ(share.leave(at(5), mark), Millis(0)) << "one more leave than enter changes nothing";
  EXPECT_EQ(share.requests(), 0U);
}

}  // namespace
}  // namespace thaw::controller
