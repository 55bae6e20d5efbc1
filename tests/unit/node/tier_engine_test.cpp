/// The engine driver against stand-ins for vLLM and SGLang: slow, failing, hanging and lying ones too.
#include "node/engine/http_client.h"
#include "node/tiers/engine_driver.h"
#include "unit/node/tier_driver_suite.h"

namespace thaw::node::test {
namespace {

constexpr auto kShort = base::Millis(300);
constexpr std::uint64_t kHeld_mib = 64;
constexpr std::uint64_t kHalf_bytes = (kHeld_mib << 20) / 2;

class SleepingRig : public EngineRig {
 public:
  SleepingRig(SleepApi api, bool roomy_host)
      : EngineRig(fake_engine({"--fake-sleep", api == SleepApi::vllm ? "vllm" : "sglang", "--fake-alloc-mib",
                               std::to_string(kHeld_mib)}),
                  ""),
        api_(api),
        driver_({.device_memory = {},
                 .available_memory = [roomy_host] { return roomy_host ? 1ULL << 40 : 0ULL; },
                 .return_timeout = base::Millis(200),
                 .undo_timeout = base::Seconds(1)}) {}

  TierDriver& driver() override { return driver_; }
  TierSubject subject() override {
    TierSubject subject = EngineRig::subject();
    subject.sleep_api = api_;
    return subject;
  }
  bool rests() override { return alive() && holds().host_bytes < kHalf_bytes && answer().empty(); }
  void heal() override {
    if (alive()) trouble("");
  }

  void trouble(const std::string& what) {
    (void)ask_engine(sandbox().socket_path(), {"POST", "/fake/sleep-trouble", what}, now() + base::Seconds(20));
  }

  std::vector<TierFault> faults() override {
    using In = TierFault::In;
    const auto with = [this](const char* what) { return [this, what] { trouble(what); }; };
    return {
        {"it refuses to sleep", In::down, with("sleep=error"), {Rests::ready}},
        {"it says that it sleeps and keeps its memory", In::down, with("sleep=lie"), {Rests::ready}},
        {"it takes its time", In::down, with("delay_ms=100"), {Rests::standby}, base::Seconds(20), false},
        {"it never answers to a sleep", In::down, with("sleep=hang"), {Rests::lost}, kShort},
        {"it sleeps too late", In::down, with("delay_ms=2000"), {Rests::lost}, kShort},
        {"it dies of sleeping", In::down, with("sleep=crash"), {Rests::lost}},
        {"it lies, and cannot be woken", In::down, with("sleep=lie,wake=hang"), {Rests::lost}, kShort},
        {"it refuses to wake", In::up, with("wake=error"), {Rests::standby}},
        {"it says that it woke and sleeps on", In::up, with("wake=lie"), {Rests::standby}},
        {"it wakes slowly", In::up, with("delay_ms=100"), {Rests::ready}, base::Seconds(20), false},
        {"it never answers to a wake", In::up, with("wake=hang"), {Rests::lost}, kShort},
        {"it dies of waking", In::up, with("wake=crash"), {Rests::lost}},
    };
  }

 private:
  SleepApi api_;
  EngineDriver driver_;
};

/// At level 2 a sleeper that was woken by half is not kept.
class Level2Rig : public SleepingRig {
 public:
  Level2Rig() : SleepingRig(SleepApi::vllm, false) {}
  std::vector<TierFault> faults() override {
    std::vector<TierFault> all = SleepingRig::faults();
    for (TierFault& fault : all)
      if (fault.in == TierFault::In::up && fault.fails) fault.allowed = {Rests::lost};
    return all;
  }
};

INSTANTIATE_TEST_SUITE_P(EngineVllm, TierDriverSuite, ::testing::Values(TierRigMaker([] {
                           return std::make_unique<SleepingRig>(SleepApi::vllm, true);
                         })));
INSTANTIATE_TEST_SUITE_P(EngineVllmLevel2, TierDriverSuite,
                         ::testing::Values(TierRigMaker([] { return std::make_unique<Level2Rig>(); })));
INSTANTIATE_TEST_SUITE_P(EngineSglang, TierDriverSuite, ::testing::Values(TierRigMaker([] {
                           return std::make_unique<SleepingRig>(SleepApi::sglang, true);
                         })));

class EngineDriverTest : public ::testing::Test {
 protected:
  /// An engine without calls for sleeping.
  class Rig : public EngineRig {
   public:
    Rig() : EngineRig(fake_engine(), "") {}
    TierDriver& driver() override { return driver_; }
    bool rests() override { return false; }

   private:
    EngineDriver driver_;
  };

  void SetUp() override {
    if (const std::string why = rig_.cannot(); !why.empty()) GTEST_SKIP() << why;
    rig_.start();
  }

  Rig rig_;
};

/// One that was started without its sleep mode refuses, and serves on.
TEST_F(EngineDriverTest, SleepModeOffIsNoHarm) {
  TierSubject subject = rig_.subject();
  const auto unable = rig_.driver().accepts(subject);
  ASSERT_FALSE(unable.ok());
  EXPECT_NE(unable.error().message.find("llama.cpp"), std::string::npos) << unable.error().message;
  for (const SleepApi api : {SleepApi::vllm, SleepApi::sglang}) {
    subject.sleep_api = api;
    const TierOutcome outcome = rig_.driver().down(subject, {now() + base::Seconds(20), {}});
    ASSERT_FALSE(outcome.ok());
    EXPECT_EQ(outcome.rests, Rests::ready) << outcome.error->message;
    EXPECT_NE(outcome.error->message.find("sleep mode"), std::string::npos) << outcome.error->message;
    EXPECT_FALSE(rig_.answer().empty());
  }
}

TEST_F(EngineDriverTest, UnseenDeviceMemoryIsRefused) {
  const EngineDriver driver({.device_memory = [](const TierSubject&) { return std::optional<std::uint64_t>(); }});
  TierSubject subject = rig_.subject();
  subject.sleep_api = SleepApi::vllm;
  const auto accepted = driver.accepts(subject);
  ASSERT_FALSE(accepted.ok());
  EXPECT_NE(accepted.error().message.find("libnvidia-ml"), std::string::npos) << accepted.error().message;
}

}  // namespace
}  // namespace thaw::node::test
