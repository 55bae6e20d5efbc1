#include "gateway/patience.h"

#include <gtest/gtest.h>

namespace thaw::gateway {
namespace {

using base::Seconds;

base::TimePoint at(int seconds) { return base::TimePoint(Seconds(1000 + seconds)); }

TEST(Patience, IsAMinuteBetweenBytesAndARateInAll) {
  const Patience patience(at(0), 1000);
  EXPECT_EQ(patience.deadline(at(0), 0), at(60));
  EXPECT_EQ(patience.deadline(at(59), 1), at(60) + base::Millis(1)) << "a byte a minute is not enough";
  EXPECT_EQ(patience.deadline(at(59), 100'000), at(119)) << "who is faster may pause for a minute";
  EXPECT_EQ(patience.deadline(at(100), 50'000), at(110));
}

TEST(Patience, WithoutARateOnlySilenceEndsIt) {
  const Patience patience(at(0), 0);
  EXPECT_EQ(patience.deadline(at(5000), 1), at(5060));
}

}  // namespace
}  // namespace thaw::gateway
