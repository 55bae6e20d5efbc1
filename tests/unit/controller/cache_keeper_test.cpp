#include "controller/cache_keeper.h"

#include "harness.h"

namespace thaw::controller::test {
namespace {

using net::Task;

constexpr std::uint64_t kMiB = 1ULL << 20;

class CacheKeeperTest : public ControllerTest {
 protected:
  [[nodiscard]] const control::HostCache& book() { return controller_->cache()->book(); }
  void evicted(const std::string& source, std::uint64_t freed_bytes, std::uint64_t resident_bytes, const std::string& why_left = "") {
    controller_->node_event(wire::WeightsEvicted{base::NodeName("node"), source, freed_bytes, resident_bytes, why_left});
  }
  bool scraped(const std::string& line) { return ("\n" + metrics_.scrape({})).find("\n" + line + "\n") != std::string::npos; }
};

TEST_F(CacheKeeperTest, LooksAtWhatIsDeployedAndWhereverAReplicaComesOrGoes) {
  play([&]() -> Task<void> {
    controller_->deploy(entry("m"));
    EXPECT_EQ(cache_orders(), "look /models/m.gguf");
    arrive("m");
    EXPECT_EQ(cache_orders(), "");
    ready(100);
    EXPECT_EQ(cache_orders(), "look /models/m.gguf");
    crash(100);
    EXPECT_EQ(cache_orders().substr(0, 19), "look /models/m.gguf");
    co_return;
  });
}

TEST_F(CacheKeeperTest, AStartTakesMemoryFromWhatIsKeptForLater) {
  play(
      [&]() -> Task<void> {
        controller_->deploy(entry("kept"));
        controller_->deploy(entry("wanted"));
        weights("/models/kept.gguf", kModelBytes);
        cache_orders();
        EXPECT_EQ(book().view().cached_bytes, kModelBytes);
        arrive("wanted");
        EXPECT_EQ(book().view().budget_bytes, 50 * kMiB) << "what the replica leaves of the device";
        EXPECT_EQ(cache_orders(), "evict /models/kept.gguf 50");
        evicted("/models/kept.gguf", 50 * kMiB, 50 * kMiB);
        EXPECT_EQ(cache_orders(), "");
        EXPECT_EQ(book().view().cached_bytes, 50 * kMiB);
        EXPECT_TRUE(scraped("thaw_host_cache_evictions_total 1"));
        EXPECT_TRUE(scraped("thaw_host_cache_evicted_bytes_total 52428800"));
        EXPECT_TRUE(scraped("thaw_host_cache_eviction_failures_total 0"));
        ready(100);
        crash(100);
        EXPECT_EQ(book().view().budget_bytes, 150 * kMiB);
        co_return;
      },
      150 * kMiB);
}

TEST_F(CacheKeeperTest, WhatDoesNotLeaveIsCountedAndShown) {
  play(
      [&]() -> Task<void> {
        controller_->deploy(entry("m"));
        weights("/models/m.gguf", kModelBytes);
        EXPECT_EQ(cache_orders(), "look /models/m.gguf, evict /models/m.gguf 0");
        evicted("/models/m.gguf", 0, kModelBytes, "mapped by process 7");
        EXPECT_TRUE(scraped("thaw_host_cache_eviction_failures_total 1"));
        EXPECT_EQ(book().entry("/models/m.gguf", loop_->now())->why_left, "mapped by process 7");
        EXPECT_EQ(cache_orders(), "") << "not at once again";
        co_return;
      },
      1);
}

TEST_F(CacheKeeperTest, RequestsMakeWeightsWorthKeeping) {
  play([&]() -> Task<void> {
    controller_->deploy(entry("m"));
    EXPECT_EQ(book().entry("/models/m.gguf", loop_->now())->uses_per_s, 0);
    arrive("m");
    EXPECT_GT(book().entry("/models/m.gguf", loop_->now())->uses_per_s, 0);
    co_return;
  });
}

TEST_F(CacheKeeperTest, ARemovedModelsWeightsLeave) {
  play([&]() -> Task<void> {
    controller_->deploy(entry("m"));
    cache_orders();
    controller_->remove(base::ModelName("m"));
    EXPECT_EQ(cache_orders(), "evict /models/m.gguf 0");
    EXPECT_TRUE(book().sources().empty());
    co_return;
  });
}

TEST_F(CacheKeeperTest, PeopleWhoLookOftenShareAnAnswer) {
  play([&]() -> Task<void> {
    EXPECT_TRUE(controller_->cache()->look_is_due());
    EXPECT_FALSE(controller_->cache()->look_is_due());
    co_return;
  });
}

}  // namespace
}  // namespace thaw::controller::test
