/// The runsc driver: images by gVisor, with the fake engine and with a real one.
#include <sys/mount.h>

#include <filesystem>

#include "node/tiers/runsc_driver.h"
#include "unit/node/sandbox_rig.h"

namespace thaw::node::test {
namespace {

namespace fs = std::filesystem;

/// An engine in a gVisor sandbox. `ahead`: sandboxes, also those for restores, are made before their contents are
/// known.
class RunscRig : public SandboxRig {
 public:
  RunscRig(std::string engine, std::string model, std::vector<std::string> args, bool ahead = false)
      : SandboxRig(spec::SandboxKind::runsc, std::move(engine), std::move(model), std::move(args)), ahead_(ahead) {
    if (!cannot().empty()) return;
    auto opened = RunscMaker::open(home_);
    EXPECT_TRUE(opened.ok()) << opened.error().message;
    if (!opened.ok()) return;
    maker_ = *std::move(opened);
    RunscDriver::Take take;
    if (ahead_) take = [this] { return taken(maker_->make_for_restore()); };
    driver_ = std::make_unique<RunscDriver>(maker_.get(), engines(), probe_ready, take);
  }

  TierDriver& driver() override { return *driver_; }

  std::vector<TierFault> faults() override {
    using In = TierFault::In;
    return {
        {"the disk has no room", In::down, [this] { block_image(); }, {Rests::ready}},
        {"the disk is full before all is written", In::down, [this] { fill_disk(); }, {Rests::ready, Rests::lost}},
        {"no time for it", In::down, [] {}, {Rests::ready, Rests::lost}, base::Millis(1)},
        {"the image is cut short", In::up, [this] { shorten_image(); }, {Rests::standby}},
        {"no time to come up", In::up, [] {}, {Rests::standby}, base::Millis(20)},
    };
  }
  void heal() override {
    if (!small_.empty()) {
      EXPECT_EQ(::umount2(small_.c_str(), MNT_DETACH), 0);
      small_.clear();
    }
    SandboxRig::heal();
  }

 protected:
  SandboxMaker& sandbox_maker() override { return *maker_; }
  base::Result<std::unique_ptr<Sandbox>> new_sandbox(const SandboxContents& contents) override {
    return ahead_ ? maker_->make_empty() : SandboxRig::new_sandbox(contents);
  }

 private:
  void fill_disk() {
    small_ = directory_.path() + "/small";
    fs::create_directory(small_);
    ASSERT_EQ(::mount("tmpfs", small_.c_str(), "tmpfs", 0, "size=32k"), 0);
    divert_image(small_ + "/image");
  }

  bool ahead_;
  std::unique_ptr<RunscMaker> maker_;
  std::unique_ptr<RunscDriver> driver_;
  std::string small_;  ///< a file system without room, mounted
};

std::unique_ptr<RunscRig> fake_rig(bool ahead = false) {
  return std::make_unique<RunscRig>(std::string(THAW_BINARY_DIR) + "/fake-engine", "",
                                    std::vector<std::string>{"--fake-poll"}, ahead);
}

std::unique_ptr<RunscRig> real_rig() {
  const auto engine = real_engine();
  return std::make_unique<RunscRig>(engine.empty() ? "" : engine.front(), real_model(),
                                    std::vector<std::string>{"-c", "256", "-t", "1"});
}

INSTANTIATE_TEST_SUITE_P(Runsc, TierDriverSuite, ::testing::Values(TierRigMaker([] { return fake_rig(); })));
INSTANTIATE_TEST_SUITE_P(RunscAhead, TierDriverSuite, ::testing::Values(TierRigMaker([] { return fake_rig(true); })));

TEST(RunscDriver, WithoutRunscItSaysWhy) {
  const RunscDriver driver(base::Error{base::ErrorKind::not_found, "runsc is not installed; install it"}, {});
  EXPECT_FALSE(driver.capability().works);
  EXPECT_EQ(driver.capability().detail, "runsc is not installed");
  EXPECT_EQ(driver.capability().remedy, "install it");
  EXPECT_FALSE(driver.accepts({}).ok());
}

TEST(RunscDriver, SeveralComeUpFromOneImageAtOnce) {
  const auto rig = real_rig();
  if (const std::string why = rig->cannot(); !why.empty()) GTEST_SKIP() << why;
  EXPECT_FALSE(bring_several_up(*rig).empty());
}

}  // namespace
}  // namespace thaw::node::test
