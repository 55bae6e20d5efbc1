#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <csignal>
#include <filesystem>
#include <mutex>
#include <thread>

#include "node/sandbox/files.h"
#include "node/sandbox/plain.h"
#include "node/sandbox/pool.h"
#include "unit/node/agent_harness.h"

namespace thaw::node::test {
namespace {

/// Makes real processes without runc, when it is let.
class SlowMaker : public SandboxMaker {
 public:
  SlowMaker() : plain_(home()) {}
  [[nodiscard]] LaunchPaths view(base::InstanceId instance) const override { return plain_.view(instance); }
  base::Result<std::unique_ptr<Sandbox>> make(base::InstanceId instance, const SandboxContents& contents) override {
    return plain_.make(instance, contents);
  }
  base::Result<std::unique_ptr<Sandbox>> make_empty() override {
    ++begun;
    std::unique_lock lock(mutex_);
    let_.wait(lock, [this] { return open_; });
    if (broken) return base::Error{base::ErrorKind::unavailable, "broken on purpose"};
    auto sandbox = plain_.make(base::InstanceId(static_cast<std::uint64_t>(++made)), {});
    if (sandbox.ok()) all.push_back(sandbox->get());
    return sandbox;
  }
  void let(bool open) {
    {
      const std::lock_guard lock(mutex_);
      open_ = open;
    }
    let_.notify_all();
  }

  std::atomic<int> begun = 0;
  std::atomic<int> made = 0;
  std::atomic<bool> broken = false;
  std::vector<const Sandbox*> all;  ///< in the order of their making; grows under mutex_

 private:
  SandboxHome home() {
    SandboxHome home;
    home.directory = directory_.path();
    home.init_path = std::string(THAW_BINARY_DIR) + "/thaw-init";
    return home;
  }
  TempDir directory_;
  PlainMaker plain_;
  std::mutex mutex_;
  std::condition_variable let_;
  bool open_ = true;
};

TEST(SandboxPool, FillsUpToItsSizeAndRefillsWhatIsTaken) {
  SlowMaker maker;
  SandboxPool pool(maker, 2);
  ASSERT_TRUE(eventually([&] { return pool.ready() == 2; }));
  EXPECT_EQ(maker.made, 2);
  const auto taken = pool.take();
  ASSERT_TRUE(taken);
  EXPECT_FALSE(taken->ended());
  EXPECT_TRUE(eventually([&] { return pool.ready() == 2; }));
  EXPECT_EQ(maker.made, 3);
}

TEST(SandboxPool, MakesNoneWhileAStartRuns) {
  SlowMaker maker;
  maker.let(false);
  SandboxPool pool(maker, 1);
  ASSERT_TRUE(eventually([&] { return maker.begun == 1; }));
  pool.begin_start();
  maker.let(true);
  ASSERT_TRUE(eventually([&] { return pool.ready() == 1; })) << "what was begun is finished";
  const auto taken = pool.take();
  ASSERT_TRUE(taken);
  EXPECT_FALSE(pool.take()) << "nothing is being made, so there is nothing to wait for";
  EXPECT_EQ(maker.begun, 1);
  pool.end_start();
  EXPECT_TRUE(eventually([&] { return pool.ready() == 1; }));
}

TEST(SandboxPool, TakeWaitsForTheOneInTheMaking) {
  SlowMaker maker;
  maker.let(false);
  SandboxPool pool(maker, 1);
  ASSERT_TRUE(eventually([&] { return maker.begun == 1; }));
  std::unique_ptr<Sandbox> taken;
  std::thread taker([&] { taken = pool.take(); });
  maker.let(true);
  taker.join();
  EXPECT_TRUE(taken);
}

TEST(SandboxPool, DoesNotHandOutTheDead) {
  SlowMaker maker;
  SandboxPool pool(maker, 2);
  ASSERT_TRUE(eventually([&] { return pool.ready() == 2; }));
  const Sandbox& first = *maker.all.front();
  const Sandbox* const second = maker.all.at(1);  // before the pool is full no longer, and makes another
  first.kill();
  ASSERT_TRUE(wait_ended(first.pidfd(), kPatience));
  const auto taken = pool.take();
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken.get(), second);
  EXPECT_FALSE(taken->ended());
}

TEST(SandboxPool, EmptySandboxesEndWhenNobodyHoldsThem) {
  SlowMaker maker;
  std::string directory;
  {
    SandboxPool pool(maker, 1);
    ASSERT_TRUE(eventually([&] { return pool.ready() == 1; }));
    directory = std::filesystem::path(maker.view(base::InstanceId(1)).socket).parent_path().parent_path();
    EXPECT_TRUE(std::filesystem::exists(directory));
  }
  EXPECT_FALSE(std::filesystem::exists(directory));
}

TEST(SandboxPool, KeepsNoneBeforeSomebodyAsksAndNoneLongAfter) {
  SlowMaker maker;
  {
    SandboxPool pool(maker, 1, base::Seconds(3600));
    pool.begin_start();
    EXPECT_FALSE(pool.take()) << "none is made before the first is wanted";
    EXPECT_EQ(maker.begun, 0);
    pool.end_start();
    EXPECT_TRUE(eventually([&] { return pool.ready() == 1; }));
  }
  SandboxPool pool(maker, 1, base::Seconds(1));
  pool.begin_start();
  EXPECT_FALSE(pool.take());
  pool.end_start();
  ASSERT_TRUE(eventually([&] { return pool.ready() == 1; }));
  EXPECT_TRUE(eventually([&] { return pool.ready() == 0; })) << "it was let go";
  EXPECT_EQ(maker.made, 2);
}

TEST(SandboxPool, ABrokenMakerIsNoReasonToHang) {
  SlowMaker maker;
  maker.broken = true;
  SandboxPool pool(maker, 1);
  ASSERT_TRUE(eventually([&] { return maker.begun >= 1; }));
  EXPECT_FALSE(pool.take());
}

}  // namespace
}  // namespace thaw::node::test
