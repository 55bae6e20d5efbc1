#include "node/device/cuda_survey.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "node/device/cuda_driver.h"

namespace thaw::node {
namespace {

using namespace cuda_abi;  // NOLINT(google-build-using-namespace): the names of NVIDIA's interface
constexpr int kMaxDevices = 256;

/// As NVML and nvidia-smi write it: GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx.
std::string format_uuid(const CUuuid& uuid) {
  std::string text = "GPU-";
  for (std::size_t i = 0; i < sizeof uuid.bytes; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", static_cast<unsigned char>(uuid.bytes[i]));
  }
  return text;
}

}  // namespace

base::Result<std::vector<GpuInfo>> devices_by_driver(const std::string& library) {
  THAW_ASSIGN_OR_RETURN(const auto driver, CudaDriver::open(library));
  THAW_RETURN_IF_ERROR((driver.call<cuInit_t>("cuInit", 0U)));
  int count = 0;
  THAW_RETURN_IF_ERROR((driver.call<cuDeviceGetCount_t>("cuDeviceGetCount", &count)));
  std::vector<GpuInfo> gpus;
  for (int ordinal = 0; ordinal < std::min(count, kMaxDevices); ++ordinal) {
    CUdevice device = 0;
    std::array<char, kNvmlNameBytes> name{};
    CUuuid uuid{};
    std::size_t bytes = 0;
    THAW_RETURN_IF_ERROR((driver.call<cuDeviceGet_t>("cuDeviceGet", &device, ordinal)));
    THAW_RETURN_IF_ERROR(
        (driver.call<cuDeviceGetName_t>("cuDeviceGetName", name.data(), static_cast<int>(name.size()), device)));
    THAW_RETURN_IF_ERROR((driver.call<cuDeviceGetUuid_v2_t>("cuDeviceGetUuid_v2", &uuid, device)));
    THAW_RETURN_IF_ERROR((driver.call<cuDeviceTotalMem_v2_t>("cuDeviceTotalMem_v2", &bytes, device)));
    gpus.push_back({name.data(), format_uuid(uuid), bytes, std::nullopt});
  }
  return gpus;
}

base::Result<std::string> cuda_version(const std::string& library) {
  THAW_ASSIGN_OR_RETURN(const auto driver, CudaDriver::open(library));
  int version = 0;
  THAW_RETURN_IF_ERROR((driver.call<cuDriverGetVersion_t>("cuDriverGetVersion", &version)));
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

CudaSurvey survey_cuda(const CudaLibraries& libraries) {
  CudaSurvey survey;
  const auto version = cuda_version(libraries.driver);
  if (version.ok()) survey.cuda_version = *version;

  std::string nvml_problem;
  const auto nvml = Nvml::open(libraries.nvml);
  if (nvml.ok()) {
    survey.driver_version = nvml->driver_version();
    auto gpus = nvml->devices();
    if (gpus.ok() && !gpus->empty()) {
      survey.gpus = *std::move(gpus);
      // Devices that no engine can use are none: an engine needs the driver API.
      if (!version.ok()) {
        survey.problem = version.error().message;
        survey.gpus.clear();
      }
      return survey;
    }
    nvml_problem = gpus.ok() ? "NVML lists no device" : gpus.error().message;
  } else {
    nvml_problem = nvml.error().message;
  }
  auto gpus = devices_by_driver(libraries.driver);
  if (gpus.ok()) {
    survey.gpus = *std::move(gpus);
    survey.problem = nvml_problem;
  } else {
    survey.problem = gpus.error().message;
  }
  return survey;
}

}  // namespace thaw::node
