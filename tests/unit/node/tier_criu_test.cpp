/// The criu driver: images of runc sandboxes. With a stand-in for runc and criu (tests/stand_in), whose faults can be
/// chosen; and with a real criu wherever one works (THAW_TEST_CRIU: another one than the host's).
#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>

#include "node/host_access.h"
#include "node/tiers/criu_driver.h"
#include "unit/node/sandbox_rig.h"

namespace thaw::node::test {
namespace {

namespace fs = std::filesystem;

/// The path of a criu that works, or why there is none.
base::Result<std::string> real_criu() {
  const char* given =
      std::getenv("THAW_TEST_CRIU");  // NOLINT(concurrency-mt-unsafe): nothing changes the environment here
  const auto path = given != nullptr ? base::Result<std::string>(std::string(given)) : find_criu();
  if (!path.ok()) return path.error();
  const auto info = examine_criu_at(*path);
  return info.ok() ? path : base::Result<std::string>(info.error());
}

enum class Criu { stand_in, real };

/// An engine in a runc sandbox.
class CriuRig : public SandboxRig {
 public:
  CriuRig(Criu criu, std::string engine, std::string model, std::vector<std::string> args)
      : SandboxRig(spec::SandboxKind::runc, std::move(engine), std::move(model), std::move(args)),
        stand_in_(criu == Criu::stand_in) {
    if (!cannot().empty()) return;
    EXPECT_TRUE(adopt_orphans().ok());
    std::string runc;
    std::string criu_path = stand_in_ ? std::string() : *real_criu();
    if (stand_in_) {
      fs::copy(std::string(THAW_SOURCE_DIR) + "/tests/stand_in", tools());
      runc = tools() + "/runc";
      criu_path = tools() + "/criu";
    }
    auto opened = RuncMaker::open(home_, runc, criu_path);
    EXPECT_TRUE(opened.ok()) << opened.error().message;
    if (!opened.ok()) return;
    maker_ = *std::move(opened);
    driver_ = std::make_unique<CriuDriver>(maker_.get(), engines());
    // Closed to all but root, as the store's are.
    fs::create_directory(directory_.path() + "/images");
    fs::permissions(directory_.path() + "/images", fs::perms(0700));
    subject_.image = directory_.path() + "/images/one";
  }

  std::string cannot() const override {
    if (const std::string why = SandboxRig::cannot(); !why.empty()) return why;
    if (stand_in_) return ::access("/usr/bin/python3", X_OK) == 0 ? "" : "the stand-in needs python3";
    const auto criu = real_criu();
    return criu.ok() ? "" : "NOT TESTED with a real criu: " + criu.error().message;
  }
  TierDriver& driver() override { return *driver_; }

  std::vector<TierFault> faults() override {
    using In = TierFault::In;
    std::vector<TierFault> all{
        {"the disk has no room", In::down, [this] { block_image(); }, {Rests::ready}},
        {"no time for it", In::down, [] {}, {Rests::ready, Rests::lost}, base::Millis(1)},
        {"the image is cut short", In::up, [this] { shorten_image("pages-"); }, {Rests::standby}},
        {"no time to come up", In::up, [] {}, {Rests::standby}, base::Millis(20)},
    };
    if (!stand_in_) return all;
    const auto fault = [this](const char* word) { return [this, word] { arm(word); }; };
    all.push_back({"criu refuses", In::down, fault("dump-refused"), {Rests::ready}});
    all.push_back({"criu hangs", In::down, fault("dump-hangs"), {Rests::ready, Rests::lost}, base::Seconds(1)});
    all.push_back({"the image is half written", In::down, fault("dump-half"), {Rests::lost}});
    all.push_back({"criu lies about an image", In::down, fault("dump-lies"), {Rests::lost}});
    all.push_back({"criu refuses the image", In::up, fault("restore-refused"), {Rests::standby}});
    all.push_back({"a restore hangs", In::up, fault("restore-hangs"), {Rests::standby}, base::Seconds(1)});
    all.push_back({"the restored engine ends at once", In::up, fault("restore-dies"), {Rests::standby}});
    all.push_back({"the restored engine is mute", In::up, fault("restore-mute"), {Rests::standby}, base::Seconds(3)});
    all.push_back({"criu lies about a restore", In::up, fault("restore-lies"), {Rests::standby}});
    all.push_back({"what was restored is free", In::up, fault("restore-free"), {Rests::standby}});
    return all;
  }
  void heal() override {
    std::error_code ignored;
    fs::remove(tools() + "/fault", ignored);
    SandboxRig::heal();
  }

  void arm(const std::string& word) { std::ofstream(tools() + "/fault") << word; }
  RuncMaker& maker() { return *maker_; }

 protected:
  SandboxMaker& sandbox_maker() override { return *maker_; }

 private:
  [[nodiscard]] std::string tools() const { return directory_.path() + "/tools"; }

  bool stand_in_;
  std::unique_ptr<RuncMaker> maker_;
  std::unique_ptr<CriuDriver> driver_;
};

std::unique_ptr<CriuRig> fake_rig(Criu criu) {
  return std::make_unique<CriuRig>(criu, std::string(THAW_BINARY_DIR) + "/fake-engine", "", std::vector<std::string>{});
}

std::unique_ptr<CriuRig> real_rig(Criu criu) {
  const auto engine = real_engine();
  return std::make_unique<CriuRig>(criu, engine.empty() ? "" : engine.front(), real_model(),
                                   std::vector<std::string>{"-c", "256", "-t", "1"});
}

INSTANTIATE_TEST_SUITE_P(Criu, TierDriverSuite,
                         ::testing::Values(TierRigMaker([] { return fake_rig(Criu::stand_in); })));
INSTANTIATE_TEST_SUITE_P(RealCriu, TierDriverSuite,
                         ::testing::Values(TierRigMaker([] { return fake_rig(Criu::real); })));

TEST(CriuDriver, WithoutCriuItSaysWhy) {
  const CriuDriver driver(base::Error{base::ErrorKind::not_found, "runc is not installed; install it"}, {});
  EXPECT_FALSE(driver.capability().works);
  EXPECT_EQ(driver.capability().detail, "runc is not installed");
  EXPECT_EQ(driver.capability().remedy, "install it");
  EXPECT_FALSE(driver.accepts({}).ok());
}

TEST(CriuDriver, TakesModelsOnTheCpuUnderRuncOnly) {
  const auto rig = fake_rig(Criu::stand_in);
  if (const std::string why = rig->cannot(); !why.empty()) GTEST_SKIP() << why;
  EXPECT_EQ(rig->driver().capability().detail, "criu 4.0-stand-in");
  TierSubject subject = rig->subject();
  EXPECT_TRUE(rig->driver().accepts(subject).ok());
  subject.model.resources.device = spec::DeviceKind::cuda;
  EXPECT_NE(rig->driver().accepts(subject).error().message.find("GPU"), std::string::npos);

  auto ahead = rig->maker().make_empty();
  ASSERT_TRUE(ahead.ok()) << ahead.error().message;
  subject = rig->subject();
  subject.sandbox = ahead->get();
  EXPECT_FALSE(rig->driver().accepts(subject).ok()) << "criu would not know its mounts";

  rig->start();
  ASSERT_FALSE(::testing::Test::HasFatalFailure());
  ASSERT_TRUE(rig->sandbox().listen_on_tcp("127.0.0.1", 8080).ok());
  EXPECT_NE(rig->driver().accepts(rig->subject()).error().message.find("TCP"), std::string::npos);
}

/// A sandbox that came up from an image is one like any other: limited, watched, and its engine's end is told.
void expect_ordinary(CriuRig& rig) {
  rig.start();
  ASSERT_FALSE(::testing::Test::HasFatalFailure());
  const std::string said = rig.answer();
  const std::string before = rig.sandbox().name();
  TierOutcome down = rig.down();
  ASSERT_TRUE(down.ok()) << down.error->message;
  EXPECT_EQ(down.rests, Rests::standby);
  EXPECT_TRUE(rig.sandbox().ended()) << "the image is all there is of it";
  ASSERT_TRUE(rig.destroy().ok());

  TierOutcome up = rig.up(2);
  ASSERT_TRUE(up.ok()) << up.error->message;
  rig.adopt(std::move(up.sandbox));
  Sandbox& sandbox = rig.sandbox();
  EXPECT_NE(sandbox.name(), before);
  EXPECT_EQ(rig.answer(), said);
  EXPECT_GT(sandbox.memory_bytes(), 0U);
  const auto pids = sandbox.cgroup()->pids();
  EXPECT_NE(std::find(pids.begin(), pids.end(), sandbox.engine_pid()), pids.end()) << "limits hold for the engine, too";
  EXPECT_NE(sandbox.engine_pid(), sandbox.init_pid());
  const Fd output = sandbox.take_output();

  ASSERT_EQ(::kill(sandbox.engine_pid(), SIGABRT), 0);
  ASSERT_TRUE(eventually([&] { return sandbox.ended(); }));
  const auto exit = peek_exit(sandbox.pidfd());
  ASSERT_TRUE(exit.ok()) << exit.error().message;
  EXPECT_EQ(sandbox.ending(*exit).text(), (Exit{true, SIGABRT}).text());
  ASSERT_TRUE(rig.destroy().ok());
  EXPECT_FALSE(fs::exists(rig.home().boxes() + "/" + sandbox.name()));
}

TEST(CriuDriver, WhatComesUpIsAnOrdinarySandbox) {
  const auto rig = fake_rig(Criu::stand_in);
  if (const std::string why = rig->cannot(); !why.empty()) GTEST_SKIP() << why;
  expect_ordinary(*rig);
}

TEST(RealCriuDriver, WhatComesUpIsAnOrdinarySandbox) {
  const auto rig = real_rig(Criu::real);
  if (const std::string why = rig->cannot(); !why.empty()) GTEST_SKIP() << why;
  expect_ordinary(*rig);
}

/// Each has ids of its own, which are not those of the sandbox that the image was made of.
void expect_several(CriuRig& rig) {
  std::set<std::uint32_t> uids;
  const auto outcomes = bring_several_up(rig);
  for (const TierOutcome& outcome : outcomes) uids.insert(outcome.sandbox->engine_uid());
  EXPECT_EQ(uids.size(), outcomes.size());
  EXPECT_FALSE(outcomes.empty());
}

TEST(CriuDriver, SeveralComeUpFromOneImageAtOnce) {
  const auto rig = fake_rig(Criu::stand_in);
  if (const std::string why = rig->cannot(); !why.empty()) GTEST_SKIP() << why;
  expect_several(*rig);
}

TEST(RealCriuDriver, SeveralComeUpFromOneImageAtOnce) {
  const auto rig = real_rig(Criu::real);
  if (const std::string why = rig->cannot(); !why.empty()) GTEST_SKIP() << why;
  expect_several(*rig);
}

TEST(CriuDriver, WhatIsLessConfinedIsNoReplica) {
  const auto rig = fake_rig(Criu::stand_in);
  if (const std::string why = rig->cannot(); !why.empty()) GTEST_SKIP() << why;
  rig->start();
  ASSERT_FALSE(::testing::Test::HasFatalFailure());
  ASSERT_TRUE(rig->down().ok());
  ASSERT_TRUE(rig->destroy().ok());
  rig->arm("restore-free");
  const TierOutcome outcome = rig->up(2);
  ASSERT_FALSE(outcome.ok());
  EXPECT_EQ(outcome.error->kind, base::ErrorKind::conflict);
  EXPECT_NE(outcome.error->message.find("seccomp"), std::string::npos) << outcome.error->message;
  EXPECT_EQ(outcome.rests, Rests::standby);
}

TEST(CriuDriver, SaysWhatCriuSaid) {
  const auto rig = fake_rig(Criu::stand_in);
  if (const std::string why = rig->cannot(); !why.empty()) GTEST_SKIP() << why;
  rig->start();
  ASSERT_FALSE(::testing::Test::HasFatalFailure());
  rig->arm("dump-refused");
  const TierOutcome refused = rig->down();
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error->message.find("Can't dump half of stream unix connection"), std::string::npos)
      << refused.error->message;
  EXPECT_EQ(refused.rests, Rests::ready);
  rig->heal();
  EXPECT_TRUE(rig->down().ok()) << "a refusal leaves it as it was";
}

}  // namespace
}  // namespace thaw::node::test
