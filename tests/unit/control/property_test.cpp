// Thousands of short hostile histories; the world checks every promise of the scheduler after every event.
#include <gtest/gtest.h>

#include <cstdlib>

#include "unit/control/world.h"

namespace thaw::control::test {

namespace {

/// THAW_HISTORIES=100000 for a long search; the default is for every day.
std::uint64_t histories() {
  const char* const wanted = std::getenv("THAW_HISTORIES");
  return wanted == nullptr ? 600 : std::strtoull(wanted, nullptr, 10);
}

}  // namespace

TEST(Properties, hold_in_every_history) {
  unsigned served = 0, refused = 0, woken = 0, restored = 0, images = 0;
  for (std::uint64_t seed = 1; seed <= histories(); ++seed) {
    World world(seed);
    ASSERT_NO_THROW(world.live(60)) << "seed " << seed;
    served += world.served();
    refused += world.refused();
    woken += world.woken();
    restored += world.restored();
    images += world.images_made();
  }
  EXPECT_GT(served, 21'500U);   // the histories are not all faults ...
  EXPECT_GT(refused, 1'500U);   // ... nor all sunshine
  EXPECT_GT(woken, 200U);
  EXPECT_GT(restored, 50U);
  EXPECT_GT(images, 500U);
}

/// What would become of a request is what becomes of it, and asking changes nothing.
TEST(Properties, explanations_come_about) {
  std::map<std::string, unsigned> explained;
  for (std::uint64_t seed = 1; seed <= histories() / 4; ++seed) {
    const bool special = seed % 2 == 0;
    World world(seed, Policy{}, {special, special, true}), unasked(seed, Policy{}, {special, special, false});
    ASSERT_NO_THROW(world.live(60)) << "seed " << seed;
    ASSERT_NO_THROW(unasked.live(60)) << "seed " << seed;
    ASSERT_EQ(world.fingerprint(), unasked.fingerprint()) << "seed " << seed;
    for (const auto& [prospect, count] : world.explained()) explained[prospect] += count;
  }
  for (const char* prospect : {"dispatched", "waits_for_slot", "waits_for_replica", "begins_replica", "waits_for_room", "waits_for_back_off", "refused"})
    EXPECT_GT(explained[prospect], 5U) << prospect;
}

/// As in a fleet of thousands: not every device is looked at, and whoever waits looks at what changed.
TEST(Properties, hold_with_a_shortlist) {
  Policy policy;
  policy.look_everywhere_up_to = 0;
  for (std::uint64_t seed = 1; seed <= histories() / 2; ++seed) {
    World world(seed, policy);
    ASSERT_NO_THROW(world.live(60)) << "seed " << seed;
  }
  for (std::uint64_t seed = 10'001; seed <= 10'003; ++seed) {
    World world(seed, policy);
    ASSERT_NO_THROW(world.live(2000)) << "seed " << seed;
  }
}

/// Models that take several devices, all or none, beside small ones: on few devices, and with a shortlist.
TEST(Properties, hold_with_gangs) {
  unsigned gangs = 0, served = 0, woken = 0, images = 0;
  for (std::uint64_t seed = 1; seed <= histories() / 2; ++seed) {
    Policy policy;
    if (seed % 3 == 0) policy.look_everywhere_up_to = 0;
    World world(seed, policy, {true, false});
    ASSERT_NO_THROW(world.live(60)) << "seed " << seed;
    gangs += world.gangs_begun();
    served += world.served();
    woken += world.woken();
    images += world.images_made();
  }
  EXPECT_GT(gangs, 1'000U);
  EXPECT_GT(served, 8'000U);
  EXPECT_GT(woken, 100U);
  EXPECT_GT(images, 50U);
  for (std::uint64_t seed = 10'001; seed <= 10'003; ++seed) {
    World world(seed, {}, {true, false});
    ASSERT_NO_THROW(world.live(2000)) << "seed " << seed;
  }
}

/// Priorities, weights and limits; with gangs in every other history.
TEST(Properties, hold_with_tenants_and_priorities) {
  unsigned served = 0;
  for (std::uint64_t seed = 1; seed <= histories() / 4; ++seed) {
    World world(seed, {}, {seed % 2 == 0, true});
    ASSERT_NO_THROW(world.live(60)) << "seed " << seed;
    served += world.served();
  }
  EXPECT_GT(served, 5'000U);
  for (std::uint64_t seed = 10'001; seed <= 10'003; ++seed) {
    World world(seed, {}, {true, true});
    ASSERT_NO_THROW(world.live(1000)) << "seed " << seed;
  }
}

TEST(Properties, hold_in_long_histories) {
  for (std::uint64_t seed = 10'001; seed <= 10'010; ++seed) {
    World world(seed);
    ASSERT_NO_THROW(world.live(2000)) << "seed " << seed;
  }
}

TEST(Properties, the_same_history_gives_the_same_actions) {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    World first(seed), second(seed);
    first.live(100);
    second.live(100);
    EXPECT_EQ(first.fingerprint(), second.fingerprint()) << "seed " << seed;
  }
}

}  // namespace thaw::control::test
