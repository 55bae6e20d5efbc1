// Everything that can happen to a very small fleet, in every order, up to a depth: not samples, all of it. From every state that is reached the
// world is then played to its end twice, with a node that works and with one that is dead: no request stays unanswered, nothing is left over.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <unordered_set>

#include "unit/control/small_world.h"

namespace thaw::control::test {

namespace {

using Path = std::vector<SmallWorld::Choice>;

/// THAW_EXPLORE=2 goes two events deeper than every day.
unsigned extra_depth() {
  const char* const wanted = std::getenv("THAW_EXPLORE");
  return wanted == nullptr ? 0 : static_cast<unsigned>(std::strtoul(wanted, nullptr, 10));
}

std::unique_ptr<SmallWorld> replay(const SmallWorld::Setting& setting, const Path& path) {
  auto world = std::make_unique<SmallWorld>(setting);
  for (const auto& choice : path) world->apply(choice);
  return world;
}

/// Breadth first, each state once. How many states there are.
std::size_t explore(const SmallWorld::Setting& setting, unsigned depth) {
  std::unordered_set<std::string> seen;
  std::vector<Path> level{{}};
  seen.insert(SmallWorld(setting).key());
  for (unsigned n = 0; n < depth; ++n) {
    std::vector<Path> next;
    for (const Path& path : level) {
      const auto choices = replay(setting, path)->choices();
      for (const auto& choice : choices) {
        const auto world = replay(setting, path);
        world->apply(choice);
        if (!seen.insert(world->key()).second) continue;
        next.push_back(path);
        next.back().push_back(choice);
        const auto other = replay(setting, next.back());
        world->finish(false);
        other->finish(true);
      }
    }
    level = std::move(next);
  }
  return seen.size();
}

}  // namespace

TEST(Explore, everything_with_a_device_of_its_own) {
  std::size_t states = 0;
  ASSERT_NO_THROW(states = explore({spec::DeviceKind::cuda, 2, false, false, false}, 6 + extra_depth()));
  std::printf("%zu states\n", states);
}

TEST(Explore, everything_with_the_hosts_memory) {
  std::size_t states = 0;
  ASSERT_NO_THROW(states = explore({spec::DeviceKind::cpu, 2, false, false, false}, 6 + extra_depth()));
  std::printf("%zu states\n", states);
}

TEST(Explore, everything_with_a_shortlist) {
  std::size_t states = 0;
  ASSERT_NO_THROW(states = explore({spec::DeviceKind::cuda, 2, false, false, true}, 5 + extra_depth()));
  std::printf("%zu states\n", states);
}

TEST(Explore, everything_with_a_gang) {
  std::size_t states = 0;
  ASSERT_NO_THROW(states = explore({spec::DeviceKind::cuda, 2, false, false, false, true}, 5 + extra_depth()));
  std::printf("%zu states\n", states);
}

TEST(Explore, everything_with_a_gang_and_a_shortlist) {
  std::size_t states = 0;
  ASSERT_NO_THROW(states = explore({spec::DeviceKind::cuda, 1, true, false, true, true}, 4 + extra_depth()));
  std::printf("%zu states\n", states);
}

TEST(Explore, everything_with_operators_and_lies) {
  std::size_t states = 0;
  ASSERT_NO_THROW(states = explore({spec::DeviceKind::cuda, 1, true, true, false}, 5 + extra_depth()));
  std::printf("%zu states\n", states);
}

}  // namespace thaw::control::test
