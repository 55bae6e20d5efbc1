#include "node/weights/host_cache.h"

#include <gtest/gtest.h>

#include "node/weights/source_files.h"
#include "unit/node/agent_harness.h"
#include "unit/node/mapper_process.h"
#include "unit/node/weights_files.h"

namespace thaw::node::test {
namespace {

constexpr std::uint64_t kMiB = 1ULL << 20;
constexpr std::uint64_t kBytes = 8 * kMiB;

class HostCacheTest : public ::testing::Test {
 protected:
  void SetUp() override {
    file_ = write_weights(directory_ / "weights.gguf", kBytes);
    ASSERT_FALSE(file_.empty());
    if (!make_cold(file_)) GTEST_SKIP() << "/var/tmp is no disk";
  }
  void warm() {
    std::vector<char> bytes(kBytes);
    const Fd fd(::open(file_.c_str(), O_RDONLY | O_CLOEXEC));
    ASSERT_EQ(::pread(fd.get(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(kBytes));
  }
  /// The next event.
  template <typename T>
  T next() {
    EXPECT_TRUE(eventually([this] {
      const std::lock_guard lock(mutex_);
      return !events_.empty();
    }));
    const std::lock_guard lock(mutex_);
    if (events_.empty() || !std::holds_alternative<T>(events_.front())) {
      ADD_FAILURE() << "another event, or none";
      return {};
    }
    T event = std::get<T>(events_.front());
    events_.erase(events_.begin());
    return event;
  }

  DiskDirectory directory_;
  std::string file_;
  std::mutex mutex_;
  std::vector<wire::NodeEvent> events_;
  HostCache cache_{base::NodeName("node"), [this](wire::NodeEvent event) {
                     const std::lock_guard lock(mutex_);
                     events_.push_back(std::move(event));
                   }};
};

TEST_F(HostCacheTest, WhatAnInstanceHasCopiedMayLeave) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to page out other processes";
  const MapperProcess engine(file_);
  ASSERT_TRUE(engine.mapped());
  cache_.instance_started(base::InstanceId(1), file_);
  cache_.submit(wire::EvictWeights{file_, 0});
  EXPECT_EQ(next<wire::WeightsEvicted>().why_left, "an instance uses it");
  cache_.instance_copied(base::InstanceId(1));
  cache_.submit(wire::EvictWeights{file_, 0});
  const auto evicted = next<wire::WeightsEvicted>();
  EXPECT_EQ(evicted.why_left, "");
  EXPECT_EQ(evicted.freed_bytes, kBytes);
  cache_.instance_started(base::InstanceId(2), file_);
  EXPECT_FALSE(cache_.evict(file_).ok()) << "another one reads it";
}

TEST_F(HostCacheTest, SaysHowMuchOfAModelIsInMemory) {
  cache_.submit(wire::LookAtWeights{file_});
  auto state = next<wire::WeightsState>();
  EXPECT_EQ(state.node.str(), "node");
  EXPECT_EQ(state.source, file_);
  EXPECT_EQ(state.weights_bytes, kBytes);
  EXPECT_EQ(state.resident_bytes, 0U);
  EXPECT_TRUE(state.resident_known);
  EXPECT_EQ(state.read_bytes_per_s, 0U);
  warm();
  cache_.note_read(file_, 2e9);
  cache_.submit(wire::LookAtWeights{file_});
  state = next<wire::WeightsState>();
  EXPECT_EQ(state.resident_bytes, resident_bytes_of(file_, ResidencyCall::mincore));
  EXPECT_EQ(state.resident_bytes, kBytes);
  EXPECT_EQ(state.read_bytes_per_s, 2'000'000'000U);
  cache_.submit(wire::LookAtWeights{directory_ / "absent"});
  EXPECT_EQ(next<wire::WeightsState>().weights_bytes, 0U);
}

TEST_F(HostCacheTest, EvictsAsMuchAsItIsToldAndTheKernelAgrees) {
  warm();
  cache_.submit(wire::EvictWeights{file_, 5 * kMiB});
  auto evicted = next<wire::WeightsEvicted>();
  EXPECT_EQ(evicted.freed_bytes, 4 * kMiB) << "in whole steps";
  EXPECT_EQ(evicted.resident_bytes, resident_bytes_of(file_, ResidencyCall::mincore));
  EXPECT_EQ(evicted.why_left, "");
  cache_.submit(wire::EvictWeights{file_, 5 * kMiB});
  EXPECT_EQ(next<wire::WeightsEvicted>().freed_bytes, 0U) << "an order that comes late takes nothing more";
  cache_.submit(wire::EvictWeights{file_, 0});
  evicted = next<wire::WeightsEvicted>();
  EXPECT_EQ(evicted.freed_bytes, 4 * kMiB);
  EXPECT_EQ(resident_bytes_of(file_, ResidencyCall::mincore), 0U);
}

// An order to evict and a start may cross on their way.
TEST_F(HostCacheTest, NeverTakesAwayWhatAnInstanceUses) {
  warm();
  cache_.instance_started(base::InstanceId(1), file_);
  cache_.instance_started(base::InstanceId(2), file_);
  cache_.submit(wire::EvictWeights{file_, 0});
  auto evicted = next<wire::WeightsEvicted>();
  EXPECT_EQ(evicted.freed_bytes, 0U);
  EXPECT_EQ(evicted.resident_bytes, kBytes);
  EXPECT_NE(evicted.why_left, "");
  cache_.instance_gone(base::InstanceId(1));
  EXPECT_EQ(cache_.evict(file_).error().kind, base::ErrorKind::conflict);
  cache_.instance_gone(base::InstanceId(2));
  const auto at_once = cache_.evict(file_);
  ASSERT_TRUE(at_once.ok()) << at_once.error().message;
  EXPECT_EQ(at_once->freed_bytes, kBytes);
}

// posix_fadvise says "done" and leaves everything where it is.
TEST_F(HostCacheTest, WhatTwoProcessesMapIsReportedAsLeftAndLeavesAfterTheLastOfThem) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to look into other processes";
  MapperProcess first(file_);
  MapperProcess second(file_);
  ASSERT_TRUE(first.mapped() && second.mapped());
  for (MapperProcess* mapper : {&first, &second}) {
    cache_.submit(wire::EvictWeights{file_, 0});
    const auto evicted = next<wire::WeightsEvicted>();
    EXPECT_EQ(evicted.freed_bytes, 0U);
    EXPECT_EQ(evicted.resident_bytes, kBytes);
    EXPECT_NE(evicted.why_left.find(std::to_string(mapper->pid())), std::string::npos) << evicted.why_left;
    mapper->end();
  }
  cache_.submit(wire::EvictWeights{file_, 0});
  EXPECT_EQ(next<wire::WeightsEvicted>().freed_bytes, kBytes);
  EXPECT_EQ(resident_bytes_of(file_, ResidencyCall::mincore), 0U);
}

TEST_F(HostCacheTest, ALookAtManyIsBoundedAndGoesOnWhereItStopped) {
  std::vector<std::string> sources;
  for (int n = 0; n < 5; ++n) sources.push_back(write_weights(directory_ / std::to_string(n), 4096));
  for (std::size_t n = 0; n < sources.size(); ++n) {
    const auto states = cache_.look(sources, base::Duration::zero());
    ASSERT_EQ(states.size(), sources.size());
    for (std::size_t at = 0; at < sources.size(); ++at)
      EXPECT_EQ(states[at].has_value(), at == n) << "one at least, and each in its turn";
  }
  const auto all = cache_.look(sources, base::Seconds(60));
  for (const auto& state : all) {
    ASSERT_TRUE(state.has_value());
    EXPECT_EQ(state->weights_bytes, 4096U);
  }
  EXPECT_TRUE(cache_.look({}, base::Seconds(1)).empty());
}

TEST(SourceFiles, AreToldByTheirNames) {
  const DiskDirectory directory;
  const auto make = [&](const std::string& name) { return write_weights(directory / name, 1); };
  const std::vector<std::string> parts{make("m-00001-of-00003.gguf"), make("m-00002-of-00003.gguf"),
                                       make("m-00003-of-00003.gguf")};
  EXPECT_EQ(source_files(parts[0]), parts);
  EXPECT_EQ(source_files(parts[2]), parts);
  std::filesystem::remove(parts[1]);
  EXPECT_EQ(source_files(parts[0]), (std::vector<std::string>{parts[0], parts[2]}));

  const std::string lone = make("model.gguf");
  EXPECT_EQ(source_files(lone), std::vector<std::string>{lone});
  const std::string odd = make("m-00004-of-00003.gguf");
  EXPECT_EQ(source_files(odd), std::vector<std::string>{odd}) << "no part by its number";
  EXPECT_TRUE(source_files(directory / "absent.gguf").empty());

  std::filesystem::create_directory(directory / "repo");
  const std::vector<std::string> shards{make("repo/model-00001-of-00002.safetensors"),
                                        make("repo/model-00002-of-00002.safetensors")};
  make("repo/config.json");
  EXPECT_EQ(source_files(directory / "repo"), shards);
  EXPECT_EQ(source_files(make("repo/model.safetensors.index.json")), shards);
}

}  // namespace
}  // namespace thaw::node::test
