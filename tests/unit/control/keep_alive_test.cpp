#include "control/keep_alive.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace thaw::control {
namespace {

using base::Duration;
using base::Millis;
using base::Seconds;

PauseHistogram pauses(std::initializer_list<std::pair<Duration, int>> all) {
  PauseHistogram histogram;
  for (const auto& [pause, times] : all) {
    for (int n = 0; n < times; ++n) histogram.note(pause);
  }
  return histogram;
}

TEST(KeepAlive, BreakEvenIsDownAndUpAndTheWait) {
  EXPECT_EQ(break_even(Seconds(1), Seconds(2)), Seconds(1 + 2 + 2));
}

TEST(KeepAlive, IsTheBreakEvenAsLongAsLittleIsKnown) {
  EXPECT_EQ(keep_alive({}, Seconds(4)), Seconds(4));
  EXPECT_EQ(keep_alive(pauses({{Seconds(6), 7}}), Seconds(4)), Seconds(4));
}

TEST(KeepAlive, IsLongerWhenTheNextRequestComesSoonAfterIt) {
  const Duration kept = keep_alive(pauses({{Seconds(5), 20}}), Seconds(4));
  EXPECT_GT(kept, Seconds(5));
  EXPECT_LE(kept, Seconds(8));
}

TEST(KeepAlive, IsShorterWhenNoneComes) { EXPECT_EQ(keep_alive(pauses({{Seconds(3600), 20}}), Seconds(4)), Seconds(2)); }

TEST(KeepAlive, OldPausesFade) {
  PauseHistogram histogram = pauses({{Seconds(5), 200}});
  for (int n = 0; n < 2000; ++n) histogram.note(Seconds(3600));
  EXPECT_LE(histogram.total(), PauseHistogram::kMemory);
  EXPECT_EQ(keep_alive(histogram, Seconds(4)), Seconds(2));
}

TEST(KeepAlive, AnyPauseHasABinAndTheBinsAreInOrder) {
  for (const Duration pause : {Duration(-5), Duration(0), Duration(Millis(1)), Duration(std::chrono::hours(24 * 365))}) {
    PauseHistogram histogram;
    histogram.note(pause);
    EXPECT_EQ(histogram.total(), 1);
  }
  for (std::size_t bin = 1; bin < PauseHistogram::kBins; ++bin) EXPECT_GT(PauseHistogram::middle_s(bin), PauseHistogram::upper_s(bin - 1) * 0.99);
}

/// The bound of the header, for every pause alone and whatever was learnt before it.
TEST(KeepAlive, APauseCostsAtMostThreeTimesWhatItWouldWithTheFutureKnown) {
  const Duration even = Seconds(4);
  const double even_s = base::to_s(even);
  for (int learnt_ms = 100; learnt_ms < 1'000'000; learnt_ms *= 2) {
    const double kept_s = base::to_s(keep_alive(pauses({{Millis(learnt_ms), 50}}), even));
    for (double pause_s = 0.1; pause_s < 1000; pause_s *= 1.1) {
      const double paid_s = pause_s <= kept_s ? pause_s : kept_s + even_s;
      EXPECT_LE(paid_s, 3.0001 * std::min(pause_s, even_s)) << learnt_ms << " ms learnt, a pause of " << pause_s << " s";
    }
  }
}

}  // namespace
}  // namespace thaw::control
