#pragma once

#include <cstddef>

/// The few functions of NVIDIA's driver API and NVML that thaw calls, declared here because neither header may be there when thaw is built,
/// and neither library when it runs. Names, numbers and layouts: cuda.h (checked against it in tests/emulator where it is installed) and the NVML
/// API reference. The `_v2`-suffixed names are what cuda.h's macros make of the plain ones.
namespace thaw::node::cuda_abi {

// --- libcuda.so.1

using CUresult = int;  // an enum in cuda.h
using CUdevice = int;
constexpr CUresult kCudaSuccess = 0;
constexpr CUresult kCudaErrorNoDevice = 100;

struct CUuuid {
  char bytes[16];
};

using cuInit_t = CUresult(unsigned int flags);
using cuDriverGetVersion_t = CUresult(int* version);  ///< 12040 for CUDA 12.4; works before cuInit
using cuGetErrorString_t = CUresult(CUresult error, const char** text);
using cuDeviceGetCount_t = CUresult(int* count);
using cuDeviceGet_t = CUresult(CUdevice* device, int ordinal);
using cuDeviceGetName_t = CUresult(char* name, int length, CUdevice device);
using cuDeviceGetUuid_v2_t = CUresult(CUuuid* uuid, CUdevice device);
using cuDeviceTotalMem_v2_t = CUresult(std::size_t* bytes, CUdevice device);

// --- libnvidia-ml.so.1

using nvmlReturn_t = int;  // an enum in nvml.h
struct nvmlDevice_st;
using nvmlDevice_t = nvmlDevice_st*;
constexpr nvmlReturn_t kNvmlSuccess = 0;
constexpr nvmlReturn_t kNvmlErrorInsufficientSize = 7;
constexpr unsigned int kNvmlNameBytes = 96;   ///< NVML_DEVICE_NAME_V2_BUFFER_SIZE
constexpr unsigned int kNvmlUuidBytes = 96;   ///< NVML_DEVICE_UUID_V2_BUFFER_SIZE
constexpr unsigned int kNvmlVersionBytes = 80;  ///< NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE

struct nvmlMemory_t {
  unsigned long long total;
  unsigned long long free;
  unsigned long long used;
};
/// nvmlProcessInfo_v2_t, which nvmlDeviceGetComputeRunningProcesses_v3 fills.
struct nvmlProcessInfo_t {
  unsigned int pid;
  unsigned long long usedGpuMemory;
  unsigned int gpuInstanceId;
  unsigned int computeInstanceId;
};

using nvmlInit_v2_t = nvmlReturn_t();
using nvmlShutdown_t = nvmlReturn_t();
using nvmlErrorString_t = const char*(nvmlReturn_t);
using nvmlSystemGetDriverVersion_t = nvmlReturn_t(char* version, unsigned int length);
using nvmlDeviceGetCount_v2_t = nvmlReturn_t(unsigned int* count);
using nvmlDeviceGetHandleByIndex_v2_t = nvmlReturn_t(unsigned int index, nvmlDevice_t* device);  ///< indices follow the PCI bus
using nvmlDeviceGetName_t = nvmlReturn_t(nvmlDevice_t, char* name, unsigned int length);
using nvmlDeviceGetUUID_t = nvmlReturn_t(nvmlDevice_t, char* uuid, unsigned int length);
using nvmlDeviceGetMemoryInfo_t = nvmlReturn_t(nvmlDevice_t, nvmlMemory_t*);
using nvmlDeviceGetMinorNumber_t = nvmlReturn_t(nvmlDevice_t, unsigned int* minor);  ///< N of /dev/nvidiaN
/// *count: in, the room in `infos`; out, the number of processes. kNvmlErrorInsufficientSize when there are more.
using nvmlDeviceGetComputeRunningProcesses_v3_t = nvmlReturn_t(nvmlDevice_t, unsigned int* count, nvmlProcessInfo_t* infos);

}  // namespace thaw::node::cuda_abi
