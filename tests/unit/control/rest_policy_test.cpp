// The decisions where a model rests and how it comes up, from measured costs alone.
#include "control/rest_policy.h"

#include <gtest/gtest.h>

namespace thaw::control {

namespace {

using base::Millis;

CostEstimate cost(std::initializer_list<int> values_ms) {
  CostEstimate estimate;
  for (const int ms : values_ms) estimate.note(Millis(ms));
  return estimate;
}

bool rests_in_standby(const Costs& costs, bool now_in_standby = false) {
  return choose_rest({&costs, false, 1, 0, now_in_standby}).standby;
}

bool restores(const Costs& costs, bool last = false, std::uint32_t ascents = 1) { return choose_way({&costs, ascents, last}).restore; }

}  // namespace

TEST(CostEstimate, starts_at_the_first_value_and_follows) {
  const CostEstimate none;
  EXPECT_FALSE(none.known());
  EXPECT_EQ(none.mean(), base::Duration{});
  EXPECT_EQ(none.deviation(), base::Duration{});
  EXPECT_EQ(cost({100}).mean(), Millis(100));
  EXPECT_EQ(cost({100}).deviation(), base::Duration{});
  EXPECT_EQ(cost({100, 200}).mean(), Millis(130));
  EXPECT_EQ(cost({100, 200}).samples(), 2U);
  EXPECT_NEAR(base::to_ms(cost({100, 200}).deviation()), 45.8, 0.1);  // sqrt(0.7 * 0.3 * 100^2)
  CostEstimate settles = cost({10'000});
  for (int n = 0; n < 60; ++n) settles.note(Millis(50));
  EXPECT_NEAR(base::to_ms(settles.mean()), 50, 1);
  EXPECT_LT(settles.deviation(), Millis(2));
}

TEST(ChooseRest, tries_standby_until_its_cost_is_known) {
  Costs costs;
  EXPECT_TRUE(rests_in_standby(costs));
  costs.start = cost({1});
  costs.wake = cost({5000});
  EXPECT_TRUE(rests_in_standby(costs)) << "one value is not enough";
  costs.wake = cost({5000, 5000});
  EXPECT_FALSE(rests_in_standby(costs));
}

TEST(ChooseRest, counts_weights_that_must_be_read_again) {
  Costs costs;
  costs.start = cost({140, 140});
  costs.wake = cost({7, 7});
  const auto rests = [&](int read_again_ms) { return choose_rest({&costs, false, 1, 0, false, Millis(read_again_ms)}); };
  EXPECT_TRUE(rests(50).standby);
  EXPECT_FALSE(rests(130).standby);
  EXPECT_EQ(rests(500).why, "wakes in 7ms and reads its weights again in 500ms, starts in 140ms");
  costs.wake = {};
  EXPECT_FALSE(rests(500).standby) << "no trial is needed to know";
  EXPECT_TRUE(rests(50).standby);
}

TEST(ChooseRest, takes_the_shorter_wait_and_does_not_flip_for_little) {
  Costs costs;
  costs.start = cost({130, 130});
  costs.wake = cost({20, 20});
  EXPECT_TRUE(rests_in_standby(costs));
  costs.wake = cost({125, 125});
  EXPECT_FALSE(rests_in_standby(costs, false));
  EXPECT_TRUE(rests_in_standby(costs, true));
  costs.wake = cost({140, 140});
  EXPECT_TRUE(rests_in_standby(costs, true));
  costs.wake = cost({150, 150});
  EXPECT_FALSE(rests_in_standby(costs, true));
}

TEST(ChooseRest, compares_with_the_restore_where_that_is_the_next_best) {
  Costs costs;
  costs.start = cost({5000});
  costs.restore = cost({300});
  costs.wake = cost({800, 800});
  EXPECT_TRUE(choose_rest({&costs, false, 1, 0, false}).standby) << "no image is there";
  const RestAnswer answer = choose_rest({&costs, true, 1, 0, false});
  EXPECT_FALSE(answer.standby);
  EXPECT_EQ(answer.why, "wakes in 800ms, restores in 300ms");
}

TEST(ChooseRest, gives_up_after_failures_and_looks_again_now_and_then) {
  Costs costs;
  costs.wake = cost({10, 10});
  costs.start = cost({100});
  EXPECT_TRUE(choose_rest({&costs, false, 1, 1, true}).standby);
  EXPECT_FALSE(choose_rest({&costs, false, 1, 2, true}).standby);
  EXPECT_TRUE(choose_rest({&costs, false, kTryAgainEvery, 2, true}).standby);
  costs.wake = cost({500, 500});
  EXPECT_FALSE(choose_rest({&costs, false, kTryAgainEvery - 1, 0, false}).standby);
  const RestAnswer again = choose_rest({&costs, false, kTryAgainEvery, 0, false});
  EXPECT_TRUE(again.standby);
  EXPECT_FALSE(again.prefers_standby) << "a trial is no change of mind";
}

// FIELD-NOTES' small model: restored in 0.5 s, started in 0.13 s. Two trials, then starts.
TEST(ChooseWay, finds_out_that_a_small_model_starts_faster_than_it_is_restored) {
  Costs costs;
  costs.start = cost({130});
  int restored = 0;
  bool last = false;
  for (std::uint32_t ascents = 1; ascents <= 60; ++ascents) {
    const WayAnswer answer = choose_way({&costs, ascents, last});
    last = answer.prefers_restore;
    if (answer.restore) costs.restore.note(Millis(500)), ++restored;
    else costs.start.note(Millis(130));
  }
  EXPECT_EQ(restored, static_cast<int>(kTrials));
}

TEST(ChooseWay, prefers_the_faster_with_hysteresis_and_measures_the_other_again) {
  Costs costs;
  costs.start = cost({1000});
  costs.restore = cost({400, 400});
  EXPECT_TRUE(restores(costs));
  EXPECT_FALSE(restores(costs, true, kTryAgainEvery)) << "the slower one is measured again";
  EXPECT_TRUE(choose_way({&costs, kTryAgainEvery, true}).prefers_restore);
  costs.restore = cost({950, 950});
  EXPECT_FALSE(restores(costs, false));
  EXPECT_TRUE(restores(costs, true));
  costs.restore = cost({1050, 1050});
  EXPECT_TRUE(restores(costs, true));
  costs.restore = cost({1200, 1200});
  EXPECT_FALSE(restores(costs, true));
}

TEST(Snapshots, are_worth_it_where_a_restore_can_win) {
  Costs costs;
  EXPECT_FALSE(snapshot_worthwhile(costs, {})) << "nothing is known of the start";
  costs.start = cost({130});
  EXPECT_TRUE(snapshot_worthwhile(costs, {})) << "nothing was ever restored here: worth a trial";
  EXPECT_FALSE(snapshot_worthwhile(costs, Millis(450))) << "no restore on this node was ever that fast";
  costs.start = cost({9000});
  EXPECT_TRUE(snapshot_worthwhile(costs, Millis(450)));
  costs.restore = cost({9500, 9500});
  EXPECT_FALSE(snapshot_worthwhile(costs, Millis(450))) << "this model's own are slow";
}

TEST(Worth, is_seconds_saved_a_second_and_a_byte) {
  EXPECT_DOUBLE_EQ(worth_per_byte(2, base::Seconds(3), 1000), 0.006);
  EXPECT_DOUBLE_EQ(worth_per_byte(2, base::Seconds(-3), 1000), 0);
  EXPECT_GT(worth_per_byte(2, base::Seconds(3), 0), 0);
}

}  // namespace thaw::control
