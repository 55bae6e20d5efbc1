/// The CUDA driver against the emulated one, with every error and delay that NVIDIA documents.
#include <fstream>
#include <thread>

#include "node/device/cuda_survey.h"
#include "node/tiers/cuda_checkpoint_driver.h"
#include "unit/node/emulated_driver.h"
#include "unit/node/tier_driver_suite.h"

namespace thaw::node::test {
namespace {

constexpr auto kShort = base::Millis(300);
constexpr unsigned kModel_mib = 24;
constexpr unsigned kContext_mib = 8;
constexpr std::uint64_t kMiB = 1ULL << 20;

CudaLibraries emulated() {
  return {emulated_library("libcuda.so.1"), emulated_library("libnvidia-ml.so.1")};
}

class CudaRig : public EngineRig {
 public:
  CudaRig()
      : EngineRig({emulated_library("gpu-engine"), emulated_library("libcuda.so.1"), std::to_string(kModel_mib)}, "") {
    set_device(spec::DeviceKind::cuda, "cuda0");
    set_env("THAW_EMULATOR_DIR", machine_.path());
    set_env("CUDA_VISIBLE_DEVICES", "0");
    settings_.set("THAW_EMULATOR_DIR", machine_.path());
    put("");
    driver_ = std::make_unique<CudaCheckpointDriver>(CudaCheckpointDriver::Options{
        .libraries = emulated(), .undo_timeout = base::Seconds(5), .return_timeout = base::Seconds(2)});
  }
  ~CudaRig() override { heal(); }

  TierDriver& driver() override { return *driver_; }
  bool rests() override { return alive() && holds().device_bytes == 0; }
  Holdings holds() override {
    Holdings holds = EngineRig::holds();
    const auto nvml = Nvml::open(emulated_library("libnvidia-ml.so.1"));
    holds.device_bytes = 0;
    for (const unsigned device : {0U, 1U})
      holds.device_bytes += nvml->process_bytes(device, {sandbox().engine_pid()}).value_or(0);
    return holds;
  }
  std::string answer() override {
    // A process whose calls wait answers no prompt; the suite must not wait for it either.
    return body_of(http_post(sandbox().socket_path(), "/v1/completions", "{}", base::Seconds(5)));
  }

  /// Lines of the emulated machine's settings, beside those of every test.
  void put(const std::string& lines) {
    const std::string path = machine_.path() + "/settings";
    std::ofstream(path + ".new") << "THAW_EMULATOR_DEVICES=3\nTHAW_EMULATOR_NAME=Emulated GPU,Emulated GPU,Another "
                                    "GPU\nTHAW_EMULATOR_CONTEXT_MIB="
                                 << kContext_mib << "\n"
                                 << (lines.find("MEMORY_MIB") == std::string::npos ? "THAW_EMULATOR_MEMORY_MIB=128\n"
                                                                                   : "")
                                 << lines;
    std::filesystem::rename(path + ".new", path);
  }
  void heal() override {
    if (killer_.joinable()) killer_.join();
    put("");
  }

  std::vector<TierFault> faults() override {
    using In = TierFault::In;
    const auto with = [this](const char* lines) { return [this, lines] { put(lines); }; };
    const auto killed = [this](const char* lines) {
      return [this, lines] {
        put(lines);
        killer_ = std::thread([this] {
          std::this_thread::sleep_for(
              base::Millis(100));  // into the step; whatever it meets there, the outcome is the same
          sandbox().kill();
        });
      };
    };
    const auto patience = base::Seconds(20);
    return {
        {"locks are not supported", In::down, with("THAW_EMULATOR_FAIL=cuCheckpointProcessLock=801"), {Rests::ready}},
        {"a lock in an illegal state",
         In::down,
         with("THAW_EMULATOR_FAIL=cuCheckpointProcessLock=401"),
         {Rests::ready}},
        {"work on the device does not end", In::down, with("THAW_EMULATOR_LOCK_MS=60000"), {Rests::ready}, kShort},
        {"a lock fails half-way", In::down, with("THAW_EMULATOR_BREAK=cuCheckpointProcessLock=999"), {Rests::lost}},
        {"states are not told", In::down, with("THAW_EMULATOR_FAIL=cuCheckpointProcessGetState=999"), {Rests::ready}},
        {"checkpoints are not supported",
         In::down,
         with("THAW_EMULATOR_FAIL=cuCheckpointProcessCheckpoint=801"),
         {Rests::ready}},
        {"no host memory for a checkpoint",
         In::down,
         with("THAW_EMULATOR_FAIL=cuCheckpointProcessCheckpoint=2"),
         {Rests::ready}},
        {"a checkpoint is slow", In::down, with("THAW_EMULATOR_CHECKPOINT_MS=300"), {Rests::standby}, patience, false},
        {"a checkpoint does not end in time",
         In::down,
         with("THAW_EMULATOR_CHECKPOINT_MS=2000"),
         {Rests::lost},
         kShort},
        {"a checkpoint fails half-way",
         In::down,
         with("THAW_EMULATOR_BREAK=cuCheckpointProcessCheckpoint=999"),
         {Rests::lost}},
        {"it dies during a checkpoint", In::down, killed("THAW_EMULATOR_CHECKPOINT_MS=1000"), {Rests::lost}},
        {"it can be neither checkpointed nor unlocked",
         In::down,
         with("THAW_EMULATOR_FAIL=cuCheckpointProcessCheckpoint=801,cuCheckpointProcessUnlock=999"),
         {Rests::lost}},
        {"somebody else has the device", In::up, with("THAW_EMULATOR_MEMORY_MIB=30"), {Rests::standby}, kShort},
        {"restores are refused", In::up, with("THAW_EMULATOR_FAIL=cuCheckpointProcessRestore=801"), {Rests::standby}},
        {"no room after all", In::up, with("THAW_EMULATOR_FAIL=cuCheckpointProcessRestore=2"), {Rests::lost}},
        {"a restore is slow", In::up, with("THAW_EMULATOR_RESTORE_MS=300"), {Rests::ready}, patience, false},
        {"a restore does not end in time", In::up, with("THAW_EMULATOR_RESTORE_MS=2000"), {Rests::lost}, kShort},
        {"a restore fails half-way", In::up, with("THAW_EMULATOR_BREAK=cuCheckpointProcessRestore=999"), {Rests::lost}},
        {"it dies during a restore", In::up, killed("THAW_EMULATOR_RESTORE_MS=1000"), {Rests::lost}},
        {"it cannot be unlocked", In::up, with("THAW_EMULATOR_FAIL=cuCheckpointProcessUnlock=999"), {Rests::lost}},
        {"an unlock fails half-way", In::up, with("THAW_EMULATOR_BREAK=cuCheckpointProcessUnlock=999"), {Rests::lost}},
    };
  }

 private:
  TempDir machine_;
  EmulatorSettings settings_;
  std::unique_ptr<CudaCheckpointDriver> driver_;
  std::thread killer_;
};

INSTANTIATE_TEST_SUITE_P(Cuda, TierDriverSuite,
                         ::testing::Values(TierRigMaker([] { return std::make_unique<CudaRig>(); })));

class CudaCheckpointDriverTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = rig_.cannot(); !why.empty()) GTEST_SKIP() << why;
    rig_.start();
  }
  TierOutcome down() { return rig_.driver().down(rig_.subject(), {now() + base::Seconds(20), {}}); }
  TierOutcome up(const std::string& device) {
    rig_.set_device(spec::DeviceKind::cuda, device);
    return rig_.driver().up(rig_.subject(), {now() + base::Seconds(20), {}});
  }
  std::uint64_t held_on(unsigned device) {
    return Nvml::open(emulated_library("libnvidia-ml.so.1"))
        ->process_bytes(device, {rig_.sandbox().engine_pid()})
        .value_or(0);
  }

  CudaRig rig_;
};

TEST_F(CudaCheckpointDriverTest, DeviceMemoryBecomesHostMemoryAndComesBack) {
  ASSERT_EQ(held_on(0), (kModel_mib + kContext_mib) * kMiB);
  const std::uint64_t host_before = rig_.holds().host_bytes;
  const TierOutcome rested = down();
  ASSERT_TRUE(rested.ok()) << rested.error->message;
  EXPECT_EQ(held_on(0), 0U);
  EXPECT_EQ(rested.freed.device_bytes, (kModel_mib + kContext_mib) * kMiB);
  EXPECT_EQ(rested.held.device_bytes, 0U);
  EXPECT_GE(rested.held.host_bytes + kMiB, host_before) << "what left the device is charged to the host";
  ASSERT_TRUE(up("cuda0").ok());
  EXPECT_EQ(held_on(0), (kModel_mib + kContext_mib) * kMiB);
}

TEST_F(CudaCheckpointDriverTest, ComesBackOnAnotherGpuOfItsKind) {
  ASSERT_TRUE(down().ok());
  const TierOutcome moved = up("cuda1");
  ASSERT_TRUE(moved.ok()) << moved.error->message;
  EXPECT_EQ(held_on(0), 0U);
  EXPECT_EQ(held_on(1), (kModel_mib + kContext_mib) * kMiB);
  EXPECT_NE(rig_.answer().find("all there"), std::string::npos);
}

TEST_F(CudaCheckpointDriverTest, NotOnAGpuOfAnotherKind) {
  ASSERT_TRUE(down().ok());
  const TierOutcome refused = up("cuda2");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.rests, Rests::standby) << refused.error->message;
  const TierOutcome home = up("cuda0");
  EXPECT_TRUE(home.ok()) << home.error->message;
}

TEST_F(CudaCheckpointDriverTest, OlderDriversOnlyBringItBackWhereItWas) {
  rig_.put("THAW_EMULATOR_CUDA=12080\n");
  ASSERT_TRUE(down().ok());
  const TierOutcome refused = up("cuda1");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.rests, Rests::standby);
  EXPECT_NE(refused.error->message.find("580"), std::string::npos) << refused.error->message;
  EXPECT_TRUE(up("cuda0").ok());
}

TEST(CudaCheckpointDriverHosts, SayWhatIsMissing) {
  const CudaCheckpointDriver none({.libraries = {"/nowhere/libcuda.so.1", "/nowhere/libnvidia-ml.so.1"}});
  EXPECT_FALSE(none.capability().works);
  EXPECT_NE(none.capability().detail.find("/nowhere/libcuda.so.1"), std::string::npos);
  const CudaCheckpointDriver old(
      {.libraries = {emulated_library("libcuda-old.so.1"), emulated_library("libnvidia-ml-old.so.1")}});
  EXPECT_FALSE(old.capability().works);
  EXPECT_NE(old.capability().remedy.find("570"), std::string::npos) << old.capability().remedy;
  EXPECT_FALSE(old.accepts({}).ok());
}

TEST(CudaCheckpointDriverHosts, TakeOneProcessOnSeveralGpusAndNotSeveralThatShareMemory) {
  const CudaCheckpointDriver driver({.libraries = emulated()});
  TierSubject subject;
  subject.model.resources.device = spec::DeviceKind::cuda;
  subject.device = base::DeviceId("cuda0");
  subject.devices = {base::DeviceId("cuda0"), base::DeviceId("cuda1")};
  subject.model.engine = spec::EngineKind::vllm;
  EXPECT_NE(driver.accepts(subject).error().message.find("share device memory"), std::string::npos);
  subject.model.engine = spec::EngineKind::llama_cpp;
  EXPECT_EQ(driver.accepts(subject).error().message, "it has no process");
}

TEST(DeviceLanesTest, OneAtATimeOnADevice) {
  DeviceLanes lanes(1);
  const base::DeviceId device("cuda0");
  std::atomic<int> inside{0};
  std::atomic<bool> together{false};
  const auto work = [&] {
    if (++inside > 1) together = true;
    std::this_thread::yield();
    --inside;
    return base::Status();
  };
  std::vector<std::thread> threads;
  for (std::uint64_t i = 1; i <= 8; ++i)
    threads.emplace_back([&, i] {
      EXPECT_TRUE(lanes.run(device, base::InstanceId(i), {now() + kPatience, {}}, work).status.ok());
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(together);
}

TEST(DeviceLanesTest, WhoeverHasNoTimeLeavesTheQueue) {
  DeviceLanes lanes(1);
  const base::DeviceId device("cuda0");
  std::mutex gate;
  gate.lock();
  const auto stuck = lanes.run(device, base::InstanceId(1), {now() + base::Millis(20), {}}, [&] {
    const std::lock_guard wait(gate);
    return base::Status();
  });
  EXPECT_TRUE(stuck.under_way);
  EXPECT_EQ(stuck.status.error().kind, base::ErrorKind::timeout);
  std::atomic<bool> ran{false};
  const auto waited = lanes.run(device, base::InstanceId(2), {now() + base::Millis(20), {}}, [&] {
    ran = true;
    return base::Status();
  });
  EXPECT_FALSE(waited.under_way);
  EXPECT_FALSE(waited.status.ok());
  EXPECT_TRUE(
      lanes.run(base::DeviceId("cuda1"), base::InstanceId(3), {now() + kPatience, {}}, [] { return base::Status(); })
          .status.ok())
      << "another device has threads of its own";
  EXPECT_FALSE(lanes.wait_idle(base::InstanceId(1), now()));
  gate.unlock();
  EXPECT_TRUE(lanes.wait_idle(base::InstanceId(1), now() + kPatience));
  EXPECT_FALSE(ran) << "what was given up must not happen later";
}

TEST(DeviceLanesTest, AStopEndsTheWaitAtOnce) {
  DeviceLanes lanes(1);
  std::stop_source stop;
  std::mutex gate;
  gate.lock();
  std::thread stopper([&] { stop.request_stop(); });
  const auto ran = lanes.run(base::DeviceId("cuda0"), base::InstanceId(1), {base::never(), stop.get_token()}, [&] {
    const std::lock_guard wait(gate);
    return base::Status();
  });
  stopper.join();
  EXPECT_EQ(ran.status.error().kind, base::ErrorKind::unavailable);
  gate.unlock();
}

}  // namespace
}  // namespace thaw::node::test
