#include <gtest/gtest.h>

#include <cstdlib>

#include "node/device/cuda_survey.h"
#include "node/device/devices.h"

namespace thaw::node {
namespace {

/// Against the emulated libraries; real ones are never touched.
class CudaDevicesTest : public ::testing::Test {
 protected:
  CudaDevicesTest() { set("THAW_EMULATOR_DEVICES", "2"); }
  ~CudaDevicesTest() override {
    for (const char* name : {"THAW_EMULATOR_DEVICES", "THAW_EMULATOR_MEMORY_MIB", "THAW_EMULATOR_NAME", "THAW_EMULATOR_FAIL",
                             "THAW_EMULATOR_PROCESSES"}) {
      ::unsetenv(name);  // NOLINT(concurrency-mt-unsafe): tests run one by one
    }
  }
  static void set(const char* name, const std::string& value) { ::setenv(name, value.c_str(), 1); }  // NOLINT(concurrency-mt-unsafe)
  static std::string library(const std::string& name) { return std::string(THAW_BINARY_DIR) + "/emulator/" + name; }
  static constexpr const char* kAbsent = "/nonexistent/libabsent.so.1";

  const CudaLibraries both_{library("libcuda.so.1"), library("libnvidia-ml.so.1")};
  const CudaLibraries driver_only_{library("libcuda.so.1"), kAbsent};
};

TEST_F(CudaDevicesTest, ListsDevicesWithTheirBudgets) {
  set("THAW_EMULATOR_MEMORY_MIB", "81920");
  set("THAW_EMULATOR_NAME", "NVIDIA A100-SXM4-80GB");
  AgentConfig config;
  config.cuda_reserve_bytes = 1ULL << 30;
  config.cpu_memory_bytes = 123 << 20;
  const auto devices = find_devices(config, both_);
  ASSERT_EQ(devices.size(), 3U);
  EXPECT_EQ(devices[0].id.str(), "cpu0");
  EXPECT_EQ(devices[0].budget_bytes, 123U << 20);
  EXPECT_EQ(devices[2].id.str(), "cuda1");
  EXPECT_EQ(devices[2].kind, spec::DeviceKind::cuda);
  EXPECT_EQ(devices[2].name, "NVIDIA A100-SXM4-80GB");
  EXPECT_EQ(devices[2].total_bytes, 80ULL << 30);
  EXPECT_EQ(devices[2].budget_bytes, 79ULL << 30);
  EXPECT_TRUE(devices[1].uuid.starts_with("GPU-"));
  EXPECT_NE(devices[1].uuid, devices[2].uuid);
}

TEST_F(CudaDevicesTest, AReserveBeyondTheDeviceLeavesNothing) {
  AgentConfig config;
  config.cuda_reserve_bytes = 1ULL << 60;
  EXPECT_EQ(find_devices(config, both_).at(1).budget_bytes, 0U);
}

TEST_F(CudaDevicesTest, TheDriverAloneSaysTheSame) {
  const auto with_nvml = survey_cuda(both_);
  const auto without = survey_cuda(driver_only_);
  ASSERT_EQ(with_nvml.gpus.size(), 2U);
  ASSERT_EQ(without.gpus.size(), 2U);
  EXPECT_EQ(with_nvml.gpus[1].uuid, without.gpus[1].uuid);
  EXPECT_EQ(with_nvml.gpus[1].total_bytes, without.gpus[1].total_bytes);
  EXPECT_EQ(with_nvml.driver_version, "580.65.06");
  EXPECT_EQ(with_nvml.cuda_version, "13.0");
  EXPECT_EQ(with_nvml.problem, "");
  EXPECT_NE(without.problem.find("libabsent"), std::string::npos) << without.problem;
}

TEST_F(CudaDevicesTest, WithoutADriverThereIsOnlyTheCpu) {
  const CudaLibraries none{kAbsent, kAbsent};
  EXPECT_EQ(find_devices({}, none).size(), 1U);
  EXPECT_NE(survey_cuda(none).problem.find("libabsent"), std::string::npos);
  // NVML without the driver API: no engine could use the device.
  const auto survey = survey_cuda({kAbsent, both_.nvml});
  EXPECT_TRUE(survey.gpus.empty());
  EXPECT_NE(survey.problem.find("libabsent"), std::string::npos);
}

TEST_F(CudaDevicesTest, FailuresAreToldInTheDriversWords) {
  set("THAW_EMULATOR_FAIL", "nvmlInit_v2=12,cuInit=999");
  EXPECT_EQ(survey_cuda(both_).problem, "cuInit failed: unknown error");
  EXPECT_EQ(find_devices({}, both_).size(), 1U);
  set("THAW_EMULATOR_FAIL", "nvmlInit_v2=12");
  EXPECT_EQ(survey_cuda(both_).gpus.size(), 2U);
  EXPECT_EQ(survey_cuda(both_).problem, "nvmlInit failed: Driver/library version mismatch");
  for (const char* function : {"nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetName", "nvmlDeviceGetUUID",
                               "nvmlDeviceGetMemoryInfo"}) {
    set("THAW_EMULATOR_FAIL", std::string(function) + "=9,cuDeviceGetCount=100");
    const auto survey = survey_cuda(both_);
    EXPECT_TRUE(survey.gpus.empty()) << function;
    EXPECT_EQ(survey.problem, "cuDeviceGetCount failed: no CUDA-capable device is detected");
  }
  set("THAW_EMULATOR_FAIL", "");
  set("THAW_EMULATOR_DEVICES", "0");
  EXPECT_EQ(survey_cuda(both_).problem, "cuInit failed: no CUDA-capable device is detected");
}

TEST_F(CudaDevicesTest, AnOldDriverLacksFunctions) {
  const auto survey = survey_cuda({library("libcuda-old.so.1"), kAbsent});
  EXPECT_TRUE(survey.gpus.empty());
  EXPECT_NE(survey.problem.find("cuDeviceGetUuid_v2"), std::string::npos) << survey.problem;
  EXPECT_NE(survey.problem.find("newer NVIDIA driver"), std::string::npos);
  // Who computes on a device cannot be asked: nothing may wait for it for ever.
  EXPECT_TRUE(device_memory_returned(base::DeviceId("cuda0"), 77, {both_.driver, library("libnvidia-ml-old.so.1")}));
}

TEST_F(CudaDevicesTest, MemoryIsReturnedWhenTheProcessIsNoLongerListed) {
  set("THAW_EMULATOR_PROCESSES", "0:77,1:99");
  EXPECT_FALSE(device_memory_returned(base::DeviceId("cuda0"), 77, both_));
  EXPECT_TRUE(device_memory_returned(base::DeviceId("cuda1"), 77, both_));
  EXPECT_TRUE(device_memory_returned(base::DeviceId("cuda0"), 78, both_));
  EXPECT_TRUE(device_memory_returned(base::DeviceId("cpu0"), 77, both_));
  EXPECT_TRUE(device_memory_returned(base::DeviceId("cuda0"), 77, driver_only_));
  std::string many;
  for (int pid = 1000; pid < 1200; ++pid) many += "0:" + std::to_string(pid) + ",";
  set("THAW_EMULATOR_PROCESSES", many);
  EXPECT_FALSE(device_memory_returned(base::DeviceId("cuda0"), 1199, both_));
  EXPECT_TRUE(device_memory_returned(base::DeviceId("cuda0"), 77, both_));
}

TEST_F(CudaDevicesTest, DeviceFilesAreOnlyThoseThatExist) {
  EXPECT_TRUE(device_nodes(base::DeviceId("cpu0"), both_).empty());
  for (const std::string& node : device_nodes(base::DeviceId("cuda0"), both_)) EXPECT_TRUE(node.starts_with("/dev/nvidia")) << node;
}

}  // namespace
}  // namespace thaw::node
