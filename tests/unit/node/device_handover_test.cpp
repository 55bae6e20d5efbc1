/// A tenant's model that looks for what others left on its GPU. The emulated driver keeps what is given back, as
/// NVIDIA's does not.
#include "node/device/handover.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "node/device/zero_memory.h"
#include "unit/node/agent_harness.h"
#include "unit/node/emulated_driver.h"

namespace thaw::node::test {
namespace {

using namespace cuda_abi;  // NOLINT(google-build-using-namespace): the names of NVIDIA's interface

constexpr std::uint64_t kMiB = 1ULL << 20;
constexpr unsigned kVictim_mib = 24;
const base::DeviceId kGpu("cuda0");
const base::DeviceId kOther("cuda1");

class DeviceHandoverTest : public ::testing::Test {
 protected:
  void SetUp() override {
    settings_.set("THAW_EMULATOR_DIR", machine_.path());
    settings_.set("THAW_EMULATOR_DEVICES", "2");
    settings_.set("THAW_EMULATOR_MEMORY_MIB", "256");
    settings_.set("THAW_EMULATOR_CONTEXT_MIB", "16");
    settings_.set("THAW_EMULATOR_LEFTOVERS", "1");
    ASSERT_EQ(driver_.call<cuInit_t>("cuInit", 0U), kCudaSuccess);
  }

  /// What an engine finds that takes memory of a device and writes nothing there: words that are not 0.
  std::size_t leftovers(CUdevice device, std::uint64_t bytes = 64 * kMiB) {
    const EmulatedDriver::Context context(driver_, device);
    CUdeviceptr memory = 0;
    EXPECT_EQ(driver_.call<cuMemAlloc_v2_t>("cuMemAlloc_v2", &memory, static_cast<std::size_t>(bytes)), kCudaSuccess);
    std::vector<std::uint64_t> words(bytes / sizeof(std::uint64_t));
    EXPECT_EQ(driver_.call<cuMemcpyDtoH_v2_t>("cuMemcpyDtoH_v2", static_cast<void*>(words.data()), memory,
                                              static_cast<std::size_t>(bytes)),
              kCudaSuccess);
    EXPECT_EQ(driver_.call<cuMemFree_v2_t>("cuMemFree_v2", memory), kCudaSuccess);
    return words.size() - static_cast<std::size_t>(std::count(words.begin(), words.end(), 0U));
  }
  static CudaLibraries libraries() { return {emulated_library("libcuda.so.1"), emulated_library("libnvidia-ml.so.1")}; }

  base::Status take(std::uint64_t instance, const char* tenant, std::vector<base::DeviceId> devices = {kGpu},
                    std::uint64_t bytes = 64 * kMiB) {
    return handover_.take(base::InstanceId(instance), base::TenantName(tenant), devices, bytes);
  }

  TempDir machine_;
  EmulatorSettings settings_;
  EmulatedDriver driver_;
  std::vector<std::pair<std::uint32_t, std::uint64_t>> zeroed_;  ///< device, at most so many bytes
  DeviceHandover handover_{[this](std::uint32_t index, std::uint64_t at_most_bytes) {
    zeroed_.emplace_back(index, at_most_bytes);
    return zero_free_memory(index, at_most_bytes, libraries());
  }};
};

TEST_F(DeviceHandoverTest, WithoutItATenantFindsWhatAnotherLeft) {
  { const GpuProcess victim(kVictim_mib); }  // killed
  EXPECT_EQ(leftovers(0), kVictim_mib * kMiB / sizeof(std::uint64_t));
  EXPECT_EQ(leftovers(1), kVictim_mib * kMiB / sizeof(std::uint64_t));
}

TEST_F(DeviceHandoverTest, ATenantsModelFindsNothingThatAnotherLeft) {
  ASSERT_TRUE(take(1, "a", {kGpu, kOther}).ok());
  { const GpuProcess victim(kVictim_mib); }
  handover_.give_back(base::InstanceId(1));
  ASSERT_TRUE(take(2, "b").ok());
  EXPECT_EQ(leftovers(0), 0U);
  EXPECT_GT(leftovers(1), 0U) << "that one it was not given";
}

TEST_F(DeviceHandoverTest, NothingIsHeldAfterwards) {
  { const GpuProcess victim(kVictim_mib); }
  const auto zeroed = zero_free_memory(0, UINT64_MAX, libraries());
  ASSERT_TRUE(zeroed.ok()) << zeroed.error().message;
  EXPECT_EQ(*zeroed, 240 * kMiB) << "all but the context's own";
  EXPECT_EQ(driver_.counts().device_bytes, 0U);
  EXPECT_EQ(driver_.counts().contexts, 0U);
  EXPECT_EQ(leftovers(0, 128 * kMiB), 0U);
}

TEST_F(DeviceHandoverTest, WhoComesFirstAfterAStartFindsNothingOfBefore) {
  { const GpuProcess victim(kVictim_mib); }
  ASSERT_TRUE(take(1, "a").ok());
  EXPECT_EQ(leftovers(0), 0U);
}

TEST_F(DeviceHandoverTest, BetweenModelsOfOneTenantAndForTheOperatorsNothingIsDone) {
  ASSERT_TRUE(take(1, "default").ok());
  EXPECT_TRUE(zeroed_.empty());
  handover_.give_back(base::InstanceId(1));
  ASSERT_TRUE(take(2, "a").ok());
  EXPECT_EQ(zeroed_.size(), 1U) << "the operator's own may be secret too";
  handover_.give_back(base::InstanceId(2));
  ASSERT_TRUE(take(3, "a").ok());
  handover_.give_back(base::InstanceId(3));
  ASSERT_TRUE(take(4, "default").ok());
  EXPECT_EQ(zeroed_.size(), 1U);
}

TEST_F(DeviceHandoverTest, BesideOthersNoMoreIsTakenThanTheNewOneWillAndItIsNotForgotten) {
  ASSERT_TRUE(take(1, "a").ok());
  ASSERT_TRUE(take(2, "b", {kGpu}, 32 * kMiB).ok());
  handover_.give_back(base::InstanceId(1));
  ASSERT_TRUE(take(3, "c", {kGpu}, 48 * kMiB).ok());
  handover_.give_back(base::InstanceId(2));
  handover_.give_back(base::InstanceId(3));
  ASSERT_TRUE(take(4, "c", {kGpu}, 48 * kMiB).ok());
  const auto all = UINT64_MAX;
  EXPECT_EQ(zeroed_, (std::vector<std::pair<std::uint32_t, std::uint64_t>>{{0, all}, {0, 48 * kMiB}, {0, all}}));
}

TEST_F(DeviceHandoverTest, WhereItFailsNobodyGetsTheDevice) {
  settings_.set("THAW_EMULATOR_FAIL", "cuMemsetD8_v2=999");
  const base::Status taken = take(1, "a");
  ASSERT_FALSE(taken.ok());
  EXPECT_NE(taken.error().message.find("not given to another"), std::string::npos) << taken.error().message;
  settings_.set("THAW_EMULATOR_FAIL", "");
  ASSERT_TRUE(take(1, "a").ok()) << "and the next try does it";
  EXPECT_EQ(zeroed_.size(), 2U);
}

TEST_F(DeviceHandoverTest, ACheckpointedProcessGivesItsMemoryBackAndFindsItsOwnAgain) {
  GpuProcess victim(kVictim_mib);
  const auto step = [&](const char* name) {
    return driver_.call<int(int, void*)>(name, static_cast<int>(victim.pid()), static_cast<void*>(nullptr));
  };
  ASSERT_EQ(step("cuCheckpointProcessLock"), kCudaSuccess);
  ASSERT_EQ(step("cuCheckpointProcessCheckpoint"), kCudaSuccess);
  EXPECT_GT(leftovers(0), 0U);
  ASSERT_TRUE(zero_free_memory(0, UINT64_MAX, libraries()).ok());
  EXPECT_EQ(leftovers(0), 0U);
  ASSERT_EQ(step("cuCheckpointProcessRestore"), kCudaSuccess);
  ASSERT_EQ(step("cuCheckpointProcessUnlock"), kCudaSuccess);
  EXPECT_EQ(victim.answer_to("check"), "good");
}

}  // namespace
}  // namespace thaw::node::test
