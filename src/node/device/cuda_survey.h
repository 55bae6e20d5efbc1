#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "node/device/cuda_abi.h"
#include "node/device/shared_library.h"

/// The problem: which NVIDIA devices are there, on a machine that may have no driver, an old one, or one that does not answer? Both libraries are
/// loaded at run time, and each works without the other. No CUDA context is made, so no device memory is held.
namespace thaw::node {

/// File names of NVIDIA's libraries, as the dynamic linker takes them.
struct CudaLibraries {
  std::string driver = "libcuda.so.1";
  std::string nvml = "libnvidia-ml.so.1";
};

struct GpuInfo {
  std::string name;
  std::string uuid;                          ///< "GPU-…"
  std::uint64_t total_bytes = 0;
  std::optional<std::uint32_t> minor;        ///< N of /dev/nvidiaN, where NVML says it
};

/// NVML, initialised while the object lives. One thread.
class Nvml {
 public:
  static base::Result<Nvml> open(const std::string& library);
  Nvml(Nvml&&) = default;
  Nvml& operator=(Nvml&&) = delete;
  ~Nvml();

  base::Result<std::vector<GpuInfo>> devices() const;
  /// Not in use on this device, by anybody.
  base::Result<std::uint64_t> free_bytes(std::uint32_t index) const;
  base::Result<std::string> uuid_of(std::uint32_t index) const;
  base::Result<std::uint32_t> minor_of(std::uint32_t index) const;
  base::Result<bool> has_compute_process(std::uint32_t index, pid_t pid) const;
  /// Device memory of these processes together. Fails with unavailable where NVML does not say (in some containers and virtual machines).
  base::Result<std::uint64_t> process_bytes(std::uint32_t index, const std::vector<pid_t>& pids) const;
  [[nodiscard]] std::string driver_version() const;  ///< "550.54.15", empty when NVML does not say

 private:
  explicit Nvml(SharedLibrary library) : library_(std::move(library)) {}
  base::Result<cuda_abi::nvmlDevice_t> handle(std::uint32_t index) const;
  base::Result<std::vector<cuda_abi::nvmlProcessInfo_t>> compute_processes(std::uint32_t index) const;
  [[nodiscard]] base::Error failure(const std::string& call, cuda_abi::nvmlReturn_t code) const;

  SharedLibrary library_;
};

/// The driver API. One thread. Blocking: initialising it takes up to seconds on a host with many GPUs.
base::Result<std::vector<GpuInfo>> devices_by_driver(const std::string& library);

/// "12.4": the CUDA version of the installed driver; does not initialise it.
base::Result<std::string> cuda_version(const std::string& library);

/// What there is, and why there is not more.
struct CudaSurvey {
  std::vector<GpuInfo> gpus;
  std::string driver_version;   ///< from NVML
  std::string cuda_version;     ///< from the driver API
  std::string problem;          ///< why gpus is empty, or what is missing though it is not; empty when all is well
};

/// NVML first (fast, and knows the device files), the driver API where NVML is absent or fails.
CudaSurvey survey_cuda(const CudaLibraries& libraries = {});

}  // namespace thaw::node
