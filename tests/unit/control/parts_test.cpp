// The small parts: timers, demand, the choice of victims.
#include <gtest/gtest.h>

#include <vector>

#include "control/demand.h"
#include "control/timers.h"
#include "control/victims.h"
#include "unit/control/world.h"

namespace thaw::control {

namespace {

base::TimePoint at(int ms) { return base::TimePoint{} + base::Millis(ms); }

Candidate candidate(std::uint64_t bytes, double value, int idle_since_ms = 0, int at_ms = 0) {
  Candidate c;
  c.bytes = bytes;
  c.value = value;
  c.idle_since = at(idle_since_ms);
  c.at = at(at_ms);
  return c;
}

std::vector<std::uint64_t> bytes_of(const std::vector<Candidate>& set) {
  std::vector<std::uint64_t> bytes;
  for (const Candidate& c : set) bytes.push_back(c.bytes);
  return bytes;
}

}  // namespace

TEST(Timers, come_back_in_order_whatever_is_moved_and_disarmed) {
  constexpr std::size_t kTimers = 200;
  test::Dice dice(7);
  std::vector<Timer> all(kTimers);
  Timers timers;
  for (std::size_t n = 0; n < kTimers; ++n) all[n].owner = n;
  for (int round = 0; round < 5000; ++round) {
    Timer& timer = all[dice.below(kTimers)];
    if (dice.chance(20)) timers.disarm(timer);
    else timers.arm(timer, at(static_cast<int>(dice.below(1000))));
    base::TimePoint soonest = base::never();
    for (const Timer& t : all) soonest = std::min(soonest, t.at);
    ASSERT_EQ(timers.next(), soonest);
  }
  base::TimePoint last{};
  std::size_t armed = 0;
  for (const Timer& t : all) armed += t.at != base::never() ? 1U : 0U;
  for (base::TimePoint next = timers.next(); Timer* timer = timers.pop_due(at(1000)); next = timers.next()) {
    EXPECT_GE(next, last);
    EXPECT_EQ(timer->at, base::never());
    last = next;
    --armed;
  }
  EXPECT_EQ(armed, 0U);
  EXPECT_EQ(timers.next(), base::never());
}

TEST(Timers, due_together_means_in_order_of_owners) {
  Timer a, b;
  a.owner = 2;
  b.owner = 1;
  Timers timers;
  timers.arm(a, at(5));
  timers.arm(b, at(5));
  EXPECT_EQ(timers.pop_due(at(4)), nullptr);
  EXPECT_EQ(timers.pop_due(at(5)), &b);
  timers.arm_at_latest(a, at(9));  // later: stays
  EXPECT_EQ(timers.next(), at(5));
  timers.arm_at_latest(a, at(3));
  EXPECT_EQ(timers.next(), at(3));
}

TEST(PeakWindow, remembers_the_peak_for_the_window_and_not_much_longer) {
  PeakWindow peak(base::Millis(800));
  peak.note(at(50), 7);
  peak.note(at(60), 3);
  EXPECT_EQ(peak.peak(at(849)), 7U);
  EXPECT_EQ(peak.peak(at(1000)), 0U);
  peak.note(at(5000), 2);
  EXPECT_EQ(peak.peak(at(5000)), 2U);
  EXPECT_EQ(peak.peak(at(500'000)), 0U);
}

TEST(PeakWindow, a_new_length_keeps_the_latest_peak) {
  PeakWindow peak(base::Seconds(8));
  peak.note(at(1000), 5);
  peak.resize(base::Millis(80));
  EXPECT_EQ(peak.peak(at(1001)), 5U);
  EXPECT_EQ(peak.peak(at(1200)), 0U);
}

TEST(ArrivalRate, halves_every_minute) {
  ArrivalRate rate;
  for (int n = 0; n < 6000; ++n) rate.note(at(n * 100));  // 10 a second for ten minutes
  const double now = rate.per_second(at(600'000));
  EXPECT_NEAR(now, 10.0, 0.2);
  EXPECT_NEAR(rate.per_second(at(660'000)), now / 2, 0.05);
}

TEST(RunningMean, starts_at_the_first_value_and_follows) {
  RunningMean mean;
  EXPECT_EQ(mean.value(), base::Duration{});
  mean.note(base::Millis(100));
  EXPECT_EQ(mean.value(), base::Millis(100));
  mean.note(base::Millis(200));
  EXPECT_EQ(mean.value(), base::Millis(130));
}

TEST(Victims, the_cheapest_set_that_suffices) {
  // One of 60 for 3, or 30 + 30 for 2.
  EXPECT_EQ(bytes_of(choose_victims({candidate(60, 3), candidate(30, 1), candidate(31, 1)}, 60)), (std::vector<std::uint64_t>{31, 30}));
  // Not the 10 for 0.1 as well, which the 100 makes superfluous.
  EXPECT_EQ(bytes_of(choose_victims({candidate(10, 0.1), candidate(100, 5)}, 50)), (std::vector<std::uint64_t>{100}));
  // A single dear one loses against nothing else that suffices.
  EXPECT_EQ(bytes_of(choose_victims({candidate(80, 2), candidate(20, 1), candidate(20, 1), candidate(20, 1)}, 60)),
            (std::vector<std::uint64_t>{80}));
}

TEST(Victims, the_longest_idle_goes_first_among_equals) {
  const auto chosen = choose_victims({candidate(10, 0, 300), candidate(10, 0, 100), candidate(10, 0, 200)}, 10);
  ASSERT_EQ(chosen.size(), 1U);
  EXPECT_EQ(chosen[0].idle_since, at(100));
}

TEST(Victims, none_when_all_of_them_are_not_enough) {
  EXPECT_TRUE(choose_victims({candidate(10, 0), candidate(20, 0)}, 31).empty());
  EXPECT_TRUE(choose_victims({}, 1).empty());
}

TEST(Victims, are_close_to_the_best_set) {
  test::Dice dice(3);
  for (int round = 0; round < 2000; ++round) {
    std::vector<Candidate> all;
    for (std::uint64_t n = 1 + dice.below(8); n > 0; --n) {
      all.push_back(candidate(1 + dice.below(50), static_cast<double>(dice.below(100))));
    }
    const std::uint64_t need = 1 + dice.below(120);
    double best = -1;
    for (unsigned set = 1; set < (1U << all.size()); ++set) {
      std::uint64_t bytes = 0;
      double value = 0;
      for (std::size_t n = 0; n < all.size(); ++n) {
        if ((set >> n & 1U) == 0) continue;
        bytes += all[n].bytes;
        value += all[n].value;
      }
      if (bytes >= need && (best < 0 || value < best)) best = value;
    }
    const auto chosen = choose_victims(all, need);
    ASSERT_EQ(chosen.empty(), best < 0);
    if (best < 0) continue;
    std::uint64_t bytes = 0;
    double value = 0;
    for (const Candidate& c : chosen) {
      bytes += c.bytes;
      value += c.value;
    }
    EXPECT_GE(bytes, need);
    EXPECT_LE(value, 2 * best + 1e-9);
  }
}

TEST(Victims, enough_at_the_time_when_the_last_needed_one_may_go) {
  const std::vector<Candidate> all = {candidate(10, 0, 0, 300), candidate(10, 0, 0, 100), candidate(10, 0, 0, 200)};
  EXPECT_EQ(enough_at(all, 10), at(100));
  EXPECT_EQ(enough_at(all, 25), at(300));
  EXPECT_EQ(enough_at(all, 31), base::never());
}

}  // namespace thaw::control
