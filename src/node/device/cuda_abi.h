#pragma once

#include <cstddef>

/// The few functions of NVIDIA's driver API and NVML that thaw calls, declared here because neither header may be there when thaw is built,
/// and neither library when it runs. Names, numbers and layouts: cuda.h (checked against it in tests/emulator where it is installed) and the NVML
/// API reference. The `_v2`-suffixed names are what cuda.h's macros make of the plain ones.
namespace thaw::node::cuda_abi {

// --- libcuda.so.1

using CUresult = int;  // an enum in cuda.h
using CUdevice = int;
using CUdeviceptr = unsigned long long;
struct CUctx_st;
using CUcontext = CUctx_st*;
struct CUstream_st;
using CUstream = CUstream_st*;
struct CUevent_st;
using CUevent = CUevent_st*;

constexpr CUresult kCudaSuccess = 0;
constexpr CUresult kCudaErrorInvalidValue = 1;
constexpr CUresult kCudaErrorOutOfMemory = 2;
constexpr CUresult kCudaErrorNotInitialized = 3;
constexpr CUresult kCudaErrorNoDevice = 100;
constexpr CUresult kCudaErrorInvalidDevice = 101;
constexpr CUresult kCudaErrorInvalidContext = 201;
constexpr CUresult kCudaErrorOperatingSystem = 304;
constexpr CUresult kCudaErrorInvalidHandle = 400;
constexpr CUresult kCudaErrorIllegalState = 401;
constexpr CUresult kCudaErrorNotReady = 600;
constexpr CUresult kCudaErrorHostMemoryAlreadyRegistered = 712;
constexpr CUresult kCudaErrorHostMemoryNotRegistered = 713;
constexpr CUresult kCudaErrorNotPermitted = 800;
constexpr CUresult kCudaErrorNotSupported = 801;

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

// Contexts. The primary one of a device is shared by all of a process that retain it; PyTorch and the CUDA runtime use it too.
using cuDevicePrimaryCtxRetain_t = CUresult(CUcontext* context, CUdevice device);
using cuDevicePrimaryCtxRelease_v2_t = CUresult(CUdevice device);
using cuCtxSetCurrent_t = CUresult(CUcontext context);  ///< of the calling thread; null for none
using cuCtxGetCurrent_t = CUresult(CUcontext* context);

// Memory.
using cuMemAlloc_v2_t = CUresult(CUdeviceptr* address, std::size_t bytes);
using cuMemFree_v2_t = CUresult(CUdeviceptr address);
using cuMemGetInfo_v2_t = CUresult(std::size_t* free, std::size_t* total);
constexpr unsigned int kCudaHostPortable = 1;  ///< CU_MEMHOSTREGISTER_PORTABLE, CU_MEMHOSTALLOC_PORTABLE: pinned for every context
using cuMemHostRegister_v2_t = CUresult(void* memory, std::size_t bytes, unsigned int flags);
using cuMemHostUnregister_t = CUresult(void* memory);
using cuMemHostAlloc_t = CUresult(void** memory, std::size_t bytes, unsigned int flags);
using cuMemFreeHost_t = CUresult(void* memory);

// Streams, copies, events.
constexpr unsigned int kCudaStreamNonBlocking = 1;    ///< CU_STREAM_NON_BLOCKING: does not wait for the default stream
constexpr unsigned int kCudaEventBlockingSync = 1;    ///< CU_EVENT_BLOCKING_SYNC: cuEventSynchronize sleeps and does not spin
constexpr unsigned int kCudaEventDisableTiming = 2;   ///< CU_EVENT_DISABLE_TIMING
using cuStreamCreate_t = CUresult(CUstream* stream, unsigned int flags);
using cuStreamDestroy_v2_t = CUresult(CUstream stream);
using cuStreamQuery_t = CUresult(CUstream stream);  ///< kCudaErrorNotReady while work is left
using cuStreamSynchronize_t = CUresult(CUstream stream);
using cuMemcpyHtoD_v2_t = CUresult(CUdeviceptr to, const void* from, std::size_t bytes);
using cuMemcpyDtoH_v2_t = CUresult(void* to, CUdeviceptr from, std::size_t bytes);
using cuMemcpyHtoDAsync_v2_t = CUresult(CUdeviceptr to, const void* from, std::size_t bytes, CUstream stream);
using cuEventCreate_t = CUresult(CUevent* event, unsigned int flags);
using cuEventDestroy_v2_t = CUresult(CUevent event);
using cuEventRecord_t = CUresult(CUevent event, CUstream stream);
using cuEventQuery_t = CUresult(CUevent event);  ///< kCudaErrorNotReady until the stream has come to it
using cuEventSynchronize_t = CUresult(CUevent event);

constexpr int kCudaMemoryHost = 1;    ///< CU_MEMORYTYPE_HOST
constexpr int kCudaMemoryDevice = 2;  ///< CU_MEMORYTYPE_DEVICE
/// CUDA_MEMCPY2D: `Height` rows of `WidthInBytes`, `Pitch` bytes from one to the next.
struct CUDA_MEMCPY2D {
  std::size_t srcXInBytes;
  std::size_t srcY;
  int srcMemoryType;
  const void* srcHost;
  CUdeviceptr srcDevice;
  void* srcArray;
  std::size_t srcPitch;
  std::size_t dstXInBytes;
  std::size_t dstY;
  int dstMemoryType;
  void* dstHost;
  CUdeviceptr dstDevice;
  void* dstArray;
  std::size_t dstPitch;
  std::size_t WidthInBytes;
  std::size_t Height;
};
using cuMemcpy2DAsync_v2_t = CUresult(const CUDA_MEMCPY2D* copy, CUstream stream);

// Checkpoints of other processes; since driver 570 (CUDA 12.8). Each `args` may be null, and what is reserved must be zero.
constexpr int kCudaProcessRunning = 0;       ///< CU_PROCESS_STATE_RUNNING
constexpr int kCudaProcessLocked = 1;        ///< its calls wait, and its work on the devices is done
constexpr int kCudaProcessCheckpointed = 2;  ///< it holds no device memory and no device
constexpr int kCudaProcessFailed = 3;        ///< it cannot be brought back

struct CUcheckpointLockArgs {
  unsigned int timeoutMs;  ///< 0: waits for ever. When it passes: kCudaErrorNotReady, and the process runs on
  unsigned int reserved0;
  unsigned long long reserved1[7];
};
struct CUcheckpointCheckpointArgs {
  unsigned long long reserved[8];
};
struct CUcheckpointGpuPair {
  CUuuid oldUuid;
  CUuuid newUuid;
};
struct CUcheckpointRestoreArgs {
  CUcheckpointGpuPair* gpuPairs;  ///< since driver 580: every checkpointed GPU, and where it comes back: the same chip, with room enough
  unsigned int gpuPairsCount;
  char reserved[44];
  unsigned long long reserved1;
};
struct CUcheckpointUnlockArgs {
  unsigned long long reserved[8];
};
using cuCheckpointProcessGetRestoreThreadId_t = CUresult(int pid, int* tid);
using cuCheckpointProcessGetState_t = CUresult(int pid, int* state);
using cuCheckpointProcessLock_t = CUresult(int pid, CUcheckpointLockArgs* args);
using cuCheckpointProcessCheckpoint_t = CUresult(int pid, CUcheckpointCheckpointArgs* args);
using cuCheckpointProcessRestore_t = CUresult(int pid, CUcheckpointRestoreArgs* args);
using cuCheckpointProcessUnlock_t = CUresult(int pid, CUcheckpointUnlockArgs* args);

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
constexpr unsigned long long kNvmlValueNotAvailable = ~0ULL;
/// nvmlProcessInfo_v2_t, which nvmlDeviceGetComputeRunningProcesses_v3 fills.
struct nvmlProcessInfo_t {
  unsigned int pid;
  unsigned long long usedGpuMemory;  ///< kNvmlValueNotAvailable where the driver does not say
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
