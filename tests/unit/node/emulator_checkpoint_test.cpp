#include <thread>

#include "node/device/cuda_survey.h"
#include "unit/node/agent_harness.h"
#include "unit/node/emulated_driver.h"

namespace thaw::node::test {
namespace {

using namespace cuda_abi;  // NOLINT(google-build-using-namespace): the names of NVIDIA's interface

constexpr std::uint64_t kMiB = 1U << 20;

/// Checkpoints of another process, as the documents of NVIDIA's cuda-checkpoint describe them and people have seen
/// them.
class EmulatorCheckpoint : public ::testing::Test {
 protected:
  EmulatorCheckpoint() {
    settings_.set("THAW_EMULATOR_DIR", directory_.path());
    settings_.set("THAW_EMULATOR_DEVICES", "2");
    settings_.set("THAW_EMULATOR_MEMORY_MIB", "64");
    settings_.set("THAW_EMULATOR_CONTEXT_MIB", "8");
    driver_.reset();
    EXPECT_EQ(driver_.call<cuInit_t>("cuInit", 0U), kCudaSuccess);
  }

  CUresult lock(pid_t pid, unsigned int timeout_ms = 0) const {
    CUcheckpointLockArgs args{};
    args.timeoutMs = timeout_ms;
    return driver_.call<cuCheckpointProcessLock_t>("cuCheckpointProcessLock", pid, &args);
  }
  CUresult checkpoint(pid_t pid) const {
    return driver_.call<cuCheckpointProcessCheckpoint_t>("cuCheckpointProcessCheckpoint", pid, nullptr);
  }
  CUresult restore(pid_t pid, const std::vector<std::pair<int, int>>& moves = {}) const {
    std::vector<CUcheckpointGpuPair> pairs;
    for (const auto& [from, to] : moves) pairs.push_back({uuid(from), uuid(to)});
    CUcheckpointRestoreArgs args{};
    args.gpuPairs = pairs.data();
    args.gpuPairsCount = static_cast<unsigned int>(pairs.size());
    return driver_.call<cuCheckpointProcessRestore_t>("cuCheckpointProcessRestore", pid, &args);
  }
  CUresult unlock(pid_t pid) const {
    return driver_.call<cuCheckpointProcessUnlock_t>("cuCheckpointProcessUnlock", pid, nullptr);
  }
  int state(pid_t pid) const {
    int state = -1;
    EXPECT_EQ(driver_.call<cuCheckpointProcessGetState_t>("cuCheckpointProcessGetState", pid, &state), kCudaSuccess);
    return state;
  }
  CUuuid uuid(int device) const {
    CUuuid uuid{};
    EXPECT_EQ(driver_.call<cuDeviceGetUuid_v2_t>("cuDeviceGetUuid_v2", &uuid, device), kCudaSuccess);
    return uuid;
  }
  /// What NVML says is in use.
  static std::uint64_t used_bytes(unsigned int index) {
    const auto library = SharedLibrary::open(emulated_library("libnvidia-ml.so.1")).value();
    nvmlMemory_t memory{};
    nvmlDevice_t device = nullptr;
    library.find<nvmlInit_v2_t>("nvmlInit_v2").value()();
    EXPECT_EQ(library.find<nvmlDeviceGetHandleByIndex_v2_t>("nvmlDeviceGetHandleByIndex_v2").value()(index, &device),
              kNvmlSuccess);
    EXPECT_EQ(library.find<nvmlDeviceGetMemoryInfo_t>("nvmlDeviceGetMemoryInfo").value()(device, &memory),
              kNvmlSuccess);
    library.find<nvmlShutdown_t>("nvmlShutdown").value()();
    return memory.used;
  }
  static bool nvml_lists(pid_t pid, std::uint32_t device) {
    return Nvml::open(emulated_library("libnvidia-ml.so.1")).value().has_compute_process(device, pid).value();
  }

  TempDir directory_;
  EmulatorSettings settings_;
  EmulatedDriver driver_;
};

TEST_F(EmulatorCheckpoint, GivesTheDevicesBackAndTheContentsStay) {
  settings_.set("CUDA_VISIBLE_DEVICES", "0");
  GpuProcess process(20);
  EXPECT_EQ(used_bytes(0), 28 * kMiB);
  EXPECT_TRUE(nvml_lists(process.pid(), 0));
  EXPECT_EQ(state(process.pid()), kCudaProcessRunning);
  ASSERT_EQ(lock(process.pid()), kCudaSuccess);
  EXPECT_EQ(state(process.pid()), kCudaProcessLocked);
  EXPECT_EQ(used_bytes(0), 28 * kMiB);
  ASSERT_EQ(checkpoint(process.pid()), kCudaSuccess);
  EXPECT_EQ(state(process.pid()), kCudaProcessCheckpointed);
  EXPECT_EQ(used_bytes(0), 0U);
  EXPECT_FALSE(nvml_lists(process.pid(), 0));
  process.ask("check");  // waits
  ASSERT_EQ(restore(process.pid()), kCudaSuccess);
  EXPECT_EQ(state(process.pid()), kCudaProcessLocked);
  EXPECT_EQ(used_bytes(0), 28 * kMiB);
  ASSERT_EQ(unlock(process.pid()), kCudaSuccess);
  EXPECT_EQ(state(process.pid()), kCudaProcessRunning);
  EXPECT_EQ(process.answer(), "good");
  EXPECT_TRUE(nvml_lists(process.pid(), 0));
}

TEST_F(EmulatorCheckpoint, EachStepNeedsTheStateBefore) {
  GpuProcess process(1);
  const pid_t pid = process.pid();
  EXPECT_EQ(checkpoint(pid), kCudaErrorIllegalState);
  EXPECT_EQ(restore(pid), kCudaErrorIllegalState);
  EXPECT_EQ(unlock(pid), kCudaErrorIllegalState);
  ASSERT_EQ(lock(pid), kCudaSuccess);
  EXPECT_EQ(lock(pid), kCudaErrorIllegalState);
  EXPECT_EQ(restore(pid), kCudaErrorIllegalState);
  ASSERT_EQ(checkpoint(pid), kCudaSuccess);
  EXPECT_EQ(checkpoint(pid), kCudaErrorIllegalState);
  EXPECT_EQ(unlock(pid), kCudaErrorIllegalState);
  EXPECT_EQ(lock(pid), kCudaErrorIllegalState);
  ASSERT_EQ(restore(pid), kCudaSuccess);
  ASSERT_EQ(unlock(pid), kCudaSuccess);
  EXPECT_EQ(process.answer_to("check"), "good");
}

TEST_F(EmulatorCheckpoint, OnlyProcessesOfTheDriverAreKnown) {
  int state = 0;
  EXPECT_EQ(driver_.call<cuCheckpointProcessGetState_t>("cuCheckpointProcessGetState", 1, &state),
            kCudaErrorInvalidValue);
  EXPECT_EQ(lock(1), kCudaErrorInvalidValue);
  GpuProcess process(1);
  int thread = 0;
  ASSERT_EQ(driver_.call<cuCheckpointProcessGetRestoreThreadId_t>("cuCheckpointProcessGetRestoreThreadId",
                                                                  process.pid(), &thread),
            kCudaSuccess);
  EXPECT_TRUE(std::filesystem::exists("/proc/" + std::to_string(process.pid()) + "/task/" + std::to_string(thread)));
  const pid_t pid = process.pid();
  process.end();
  EXPECT_EQ(lock(pid), kCudaErrorInvalidValue);
  EXPECT_EQ(used_bytes(0), 0U) << "what a process held goes with it";
}

TEST_F(EmulatorCheckpoint, LockingWaitsForWorkUntilItsTimeout) {
  settings_.set("THAW_EMULATOR_BUS_MB_S", "50");
  settings_.set("THAW_EMULATOR_PAGEABLE_MB_S", "0");
  GpuProcess process(1);
  ASSERT_EQ(process.answer_to("copy 10000000"), "copying");  // 200 ms
  EXPECT_EQ(lock(process.pid(), 5), kCudaErrorNotReady);
  EXPECT_EQ(state(process.pid()), kCudaProcessRunning);
  EXPECT_EQ(process.answer_to("check"), "good") << "it runs on";
  ASSERT_EQ(lock(process.pid()), kCudaSuccess) << "without a timeout it waits";
  ASSERT_EQ(unlock(process.pid()), kCudaSuccess);
  settings_.set("THAW_EMULATOR_LOCK_MS", "50");
  EXPECT_EQ(lock(process.pid(), 10), kCudaErrorNotReady) << "a slow driver";
  EXPECT_EQ(lock(process.pid(), 5000), kCudaSuccess);
}

TEST_F(EmulatorCheckpoint, StepsTakeAsLongAsTheyAreTold) {
  GpuProcess process(10);
  ASSERT_EQ(lock(process.pid()), kCudaSuccess);
  settings_.set("THAW_EMULATOR_CHECKPOINT_MB_S", "500");  // two devices of 10 MiB: 42 ms
  settings_.set("THAW_EMULATOR_RESTORE_MS", "40");
  const auto begun = std::chrono::steady_clock::now();
  ASSERT_EQ(checkpoint(process.pid()), kCudaSuccess);
  EXPECT_GE(std::chrono::steady_clock::now() - begun, std::chrono::milliseconds(40));
  ASSERT_EQ(restore(process.pid()), kCudaSuccess);
  EXPECT_GE(std::chrono::steady_clock::now() - begun, std::chrono::milliseconds(80));
}

TEST_F(EmulatorCheckpoint, ComesBackOnAnotherDevice) {
  settings_.set("CUDA_VISIBLE_DEVICES", "0");
  GpuProcess process(20);
  ::unsetenv("CUDA_VISIBLE_DEVICES");  // NOLINT(concurrency-mt-unsafe)
  const std::string before = process.answer_to("where");
  ASSERT_EQ(lock(process.pid()), kCudaSuccess);
  ASSERT_EQ(checkpoint(process.pid()), kCudaSuccess);
  EXPECT_EQ(restore(process.pid(), {{1, 0}}), kCudaErrorInvalidValue) << "does not name the device of the checkpoint";
  settings_.set("THAW_EMULATOR_CUDA", "12080");
  EXPECT_EQ(restore(process.pid(), {{0, 1}}), kCudaErrorInvalidValue) << "driver 570 cannot";
  settings_.set("THAW_EMULATOR_CUDA", "13000");
  ASSERT_EQ(restore(process.pid(), {{0, 1}}), kCudaSuccess);
  ASSERT_EQ(unlock(process.pid()), kCudaSuccess);
  EXPECT_EQ(used_bytes(0), 0U);
  EXPECT_EQ(used_bytes(1), 28 * kMiB);
  EXPECT_EQ(process.answer_to("check"), "good");
  EXPECT_NE(process.answer_to("where"), before);
  // And back again, with what it holds now.
  ASSERT_EQ(lock(process.pid()), kCudaSuccess);
  ASSERT_EQ(checkpoint(process.pid()), kCudaSuccess);
  ASSERT_EQ(restore(process.pid(), {{1, 0}}), kCudaSuccess);
  ASSERT_EQ(unlock(process.pid()), kCudaSuccess);
  EXPECT_EQ(process.answer_to("where"), before);
  EXPECT_EQ(process.answer_to("check"), "good");
}

TEST_F(EmulatorCheckpoint, DevicesCanBeExchangedButOnlyForTheSameKind) {
  GpuProcess process(4);
  ASSERT_EQ(lock(process.pid()), kCudaSuccess);
  ASSERT_EQ(checkpoint(process.pid()), kCudaSuccess);
  EXPECT_EQ(restore(process.pid(), {{0, 1}}), kCudaErrorInvalidValue) << "every device must be named";
  EXPECT_EQ(restore(process.pid(), {{0, 1}, {1, 1}}), kCudaErrorInvalidValue);
  ASSERT_EQ(restore(process.pid(), {{0, 1}, {1, 0}}), kCudaSuccess);
  ASSERT_EQ(unlock(process.pid()), kCudaSuccess);
  EXPECT_EQ(process.answer_to("check"), "good");

  std::ofstream(directory_.path() + "/settings")
      << "THAW_EMULATOR_NAME=NVIDIA A100,NVIDIA L4\n";  // for the process that runs already
  ASSERT_EQ(lock(process.pid()), kCudaSuccess);
  ASSERT_EQ(checkpoint(process.pid()), kCudaSuccess);
  EXPECT_EQ(restore(process.pid(), {{0, 1}, {1, 0}}), kCudaErrorInvalidValue);
  EXPECT_EQ(restore(process.pid(), {{0, 0}, {1, 1}}), kCudaSuccess);
}

TEST_F(EmulatorCheckpoint, WithoutMemoryTheRestoreFailsAndEveryLaterOneToo) {
  settings_.set("CUDA_VISIBLE_DEVICES", "0");
  GpuProcess process(20);
  ASSERT_EQ(lock(process.pid()), kCudaSuccess);
  ASSERT_EQ(checkpoint(process.pid()), kCudaSuccess);
  {
    GpuProcess other(40);
    EXPECT_EQ(restore(process.pid()), kCudaErrorOutOfMemory);
    EXPECT_EQ(state(process.pid()), kCudaProcessCheckpointed);
    EXPECT_EQ(other.answer_to("check"), "good");
  }
  EXPECT_EQ(used_bytes(0), 0U);
  EXPECT_EQ(restore(process.pid()), kCudaErrorOperatingSystem);
  EXPECT_EQ(unlock(process.pid()), kCudaErrorIllegalState);
}

TEST_F(EmulatorCheckpoint, AStepThatBreaksLeavesTheProcessFailed) {
  GpuProcess process(1);
  settings_.set("THAW_EMULATOR_BREAK", "cuCheckpointProcessRestore=999");
  ASSERT_EQ(lock(process.pid()), kCudaSuccess);
  ASSERT_EQ(checkpoint(process.pid()), kCudaSuccess);
  EXPECT_EQ(restore(process.pid()), 999);
  EXPECT_EQ(state(process.pid()), kCudaProcessFailed);
  for (const CUresult code :
       {lock(process.pid()), checkpoint(process.pid()), restore(process.pid()), unlock(process.pid())})
    EXPECT_EQ(code, kCudaErrorIllegalState);
}

TEST_F(EmulatorCheckpoint, AStoppedProcessKeepsTheCallerWaitingUntilItDies) {
  GpuProcess process(1);
  const pid_t pid = process.pid();
  ::kill(pid, SIGSTOP);
  CUresult code = kCudaSuccess;
  std::thread caller([&] { code = lock(pid, 1); });
  process.end();
  caller.join();
  EXPECT_TRUE(code == kCudaErrorOperatingSystem || code == kCudaErrorInvalidValue) << code;
}

TEST_F(EmulatorCheckpoint, OldDriversCannotAndReservedFieldsMustBeZero) {
  GpuProcess process(1);
  settings_.set("THAW_EMULATOR_CUDA", "12040");
  EXPECT_EQ(lock(process.pid()), kCudaErrorNotSupported);
  settings_.set("THAW_EMULATOR_CUDA", "13000");
  CUcheckpointLockArgs args{};
  args.reserved1[3] = 1;
  EXPECT_EQ(driver_.call<cuCheckpointProcessLock_t>("cuCheckpointProcessLock", process.pid(), &args),
            kCudaErrorInvalidValue);
  const auto old_library = SharedLibrary::open(emulated_library("libcuda-old.so.1")).value();
  EXPECT_FALSE(old_library.find<cuCheckpointProcessLock_t>("cuCheckpointProcessLock").ok());
}

TEST_F(EmulatorCheckpoint, AProcessCanCheckpointItself) {
  const EmulatedDriver::Context context(driver_, 0);
  CUdeviceptr address = 0;
  ASSERT_EQ(driver_.call<cuMemAlloc_v2_t>("cuMemAlloc_v2", &address, 100UL), kCudaSuccess);
  const std::string text = "what the device holds";
  ASSERT_EQ(
      driver_.call<cuMemcpyHtoD_v2_t>("cuMemcpyHtoD_v2", address, static_cast<const void*>(text.data()), text.size()),
      kCudaSuccess);
  ASSERT_EQ(lock(::getpid()), kCudaSuccess);
  ASSERT_EQ(checkpoint(::getpid()), kCudaSuccess);
  EXPECT_EQ(used_bytes(0), 0U);
  ASSERT_EQ(restore(::getpid()), kCudaSuccess);
  ASSERT_EQ(unlock(::getpid()), kCudaSuccess);
  std::string read(text.size(), ' ');
  ASSERT_EQ(driver_.call<cuMemcpyDtoH_v2_t>("cuMemcpyDtoH_v2", static_cast<void*>(read.data()), address, read.size()),
            kCudaSuccess);
  EXPECT_EQ(read, text);
}

}  // namespace
}  // namespace thaw::node::test
