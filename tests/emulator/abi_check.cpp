/// Compiled where CUDA's headers are installed: thaw's own declarations of the driver API (and of NVML, where nvml.h is
/// there too) must agree with them.
#include <cuda.h>

#include <cstddef>
#include <type_traits>
#if __has_include(<nvml.h>)
#include <nvml.h>
#define THAW_HAS_NVML_H 1
#endif

#include "node/device/cuda_abi.h"
#include "node/device/zero_memory.h"

namespace abi = thaw::node::cuda_abi;

/// The same calling convention: enums and ints are passed alike, and so are pointers to structures of one layout.
template <typename T>
struct Plain {
  using type = T;
};
template <typename T>
requires std::is_enum_v<T>
struct Plain<T> {
  using type = int;
};
template <typename T>
requires std::is_enum_v<T>
struct Plain<T*> {
  using type = int*;
};
template <>
struct Plain<CUuuid*> {
  using type = abi::CUuuid*;
};
template <>
struct Plain<CUcontext> {
  using type = abi::CUcontext;
};
template <>
struct Plain<CUcontext*> {
  using type = abi::CUcontext*;
};
template <>
struct Plain<CUstream> {
  using type = abi::CUstream;
};
template <>
struct Plain<CUstream*> {
  using type = abi::CUstream*;
};
template <>
struct Plain<CUevent> {
  using type = abi::CUevent;
};
template <>
struct Plain<CUevent*> {
  using type = abi::CUevent*;
};
template <>
struct Plain<const CUDA_MEMCPY2D*> {
  using type = const abi::CUDA_MEMCPY2D*;
};
#if CUDA_VERSION >= 13000
template <>
struct Plain<CUcheckpointLockArgs*> {
  using type = abi::CUcheckpointLockArgs*;
};
template <>
struct Plain<CUcheckpointCheckpointArgs*> {
  using type = abi::CUcheckpointCheckpointArgs*;
};
template <>
struct Plain<CUcheckpointRestoreArgs*> {
  using type = abi::CUcheckpointRestoreArgs*;
};
template <>
struct Plain<CUcheckpointUnlockArgs*> {
  using type = abi::CUcheckpointUnlockArgs*;
};
#endif
#ifdef THAW_HAS_NVML_H
template <>
struct Plain<nvmlDevice_t> {
  using type = abi::nvmlDevice_t;
};
template <>
struct Plain<nvmlDevice_t*> {
  using type = abi::nvmlDevice_t*;
};
template <>
struct Plain<nvmlMemory_t*> {
  using type = abi::nvmlMemory_t*;
};
template <>
struct Plain<nvmlProcessInfo_t*> {
  using type = abi::nvmlProcessInfo_t*;
};
#endif

template <typename Function>
struct Signature;
template <typename Return, typename... Args>
struct Signature<Return(Args...)> {
  using type = typename Plain<Return>::type(typename Plain<Args>::type...);
};

template <typename Ours, typename Theirs>
constexpr bool same = std::is_same_v<Ours, typename Signature<Theirs>::type>;

// Many names are macros there that name the function's present version. Ours are of the names that the driver exports.
#define THAW_TEXT_(name) #name
#define THAW_TEXT(name) THAW_TEXT_(name)
constexpr bool equal(const char* a, const char* b) {
  return *a == *b && (*a == '\0' || equal(a + 1, b + 1));
}
static_assert(equal(THAW_TEXT(cuDeviceTotalMem), "cuDeviceTotalMem_v2"));
static_assert(equal(THAW_TEXT(cuDevicePrimaryCtxRelease), "cuDevicePrimaryCtxRelease_v2"));
static_assert(equal(THAW_TEXT(cuMemAlloc), "cuMemAlloc_v2"));
static_assert(equal(THAW_TEXT(cuMemFree), "cuMemFree_v2"));
static_assert(equal(THAW_TEXT(cuMemGetInfo), "cuMemGetInfo_v2"));
static_assert(equal(THAW_TEXT(cuMemsetD8), "cuMemsetD8_v2"));
static_assert(equal(THAW_TEXT(cuMemHostRegister), "cuMemHostRegister_v2"));
static_assert(equal(THAW_TEXT(cuStreamDestroy), "cuStreamDestroy_v2"));
static_assert(equal(THAW_TEXT(cuEventDestroy), "cuEventDestroy_v2"));
static_assert(equal(THAW_TEXT(cuMemcpyHtoD), "cuMemcpyHtoD_v2"));
static_assert(equal(THAW_TEXT(cuMemcpyDtoH), "cuMemcpyDtoH_v2"));
static_assert(equal(THAW_TEXT(cuMemcpyHtoDAsync), "cuMemcpyHtoDAsync_v2"));
static_assert(equal(THAW_TEXT(cuMemcpy2DAsync), "cuMemcpy2DAsync_v2"));

static_assert(same<abi::cuInit_t, decltype(cuInit)>);
static_assert(same<abi::cuDriverGetVersion_t, decltype(cuDriverGetVersion)>);
static_assert(same<abi::cuGetErrorString_t, decltype(cuGetErrorString)>);
static_assert(same<abi::cuDeviceGetCount_t, decltype(cuDeviceGetCount)>);
static_assert(same<abi::cuDeviceGet_t, decltype(cuDeviceGet)>);
static_assert(same<abi::cuDeviceGetName_t, decltype(cuDeviceGetName)>);
static_assert(same<abi::cuDeviceGetUuid_v2_t, decltype(cuDeviceGetUuid)>);
static_assert(same<abi::cuDeviceTotalMem_v2_t, decltype(cuDeviceTotalMem)>);
static_assert(same<abi::cuDevicePrimaryCtxRetain_t, decltype(cuDevicePrimaryCtxRetain)>);
static_assert(same<abi::cuCtxSetCurrent_t, decltype(cuCtxSetCurrent)>);
static_assert(same<abi::cuCtxGetCurrent_t, decltype(cuCtxGetCurrent)>);
static_assert(same<abi::cuMemHostUnregister_t, decltype(cuMemHostUnregister)>);
static_assert(same<abi::cuMemHostAlloc_t, decltype(cuMemHostAlloc)>);
static_assert(same<abi::cuMemFreeHost_t, decltype(cuMemFreeHost)>);
static_assert(same<abi::cuStreamCreate_t, decltype(cuStreamCreate)>);
static_assert(same<abi::cuStreamQuery_t, decltype(cuStreamQuery)>);
static_assert(same<abi::cuStreamSynchronize_t, decltype(cuStreamSynchronize)>);
static_assert(same<abi::cuEventCreate_t, decltype(cuEventCreate)>);
static_assert(same<abi::cuEventRecord_t, decltype(cuEventRecord)>);
static_assert(same<abi::cuEventQuery_t, decltype(cuEventQuery)>);
static_assert(same<abi::cuEventSynchronize_t, decltype(cuEventSynchronize)>);
static_assert(same<abi::cuDevicePrimaryCtxRelease_v2_t, decltype(cuDevicePrimaryCtxRelease)>);
static_assert(same<abi::cuMemAlloc_v2_t, decltype(cuMemAlloc)>);
static_assert(same<abi::cuMemFree_v2_t, decltype(cuMemFree)>);
static_assert(same<abi::cuMemGetInfo_v2_t, decltype(cuMemGetInfo)>);
static_assert(same<abi::cuMemsetD8_v2_t, decltype(cuMemsetD8)>);
static_assert(same<abi::cuMemHostRegister_v2_t, decltype(cuMemHostRegister)>);
static_assert(same<abi::cuStreamDestroy_v2_t, decltype(cuStreamDestroy)>);
static_assert(same<abi::cuMemcpyHtoD_v2_t, decltype(cuMemcpyHtoD)>);
static_assert(same<abi::cuMemcpyDtoH_v2_t, decltype(cuMemcpyDtoH)>);
static_assert(same<abi::cuMemcpyHtoDAsync_v2_t, decltype(cuMemcpyHtoDAsync)>);
static_assert(same<abi::cuMemcpy2DAsync_v2_t, decltype(cuMemcpy2DAsync)>);
static_assert(same<abi::cuEventDestroy_v2_t, decltype(cuEventDestroy)>);

// The checkpoint API came with CUDA 12.8, gpuPairs with 13.0.
#if CUDA_VERSION >= 13000
static_assert(same<abi::cuCheckpointProcessGetRestoreThreadId_t, decltype(cuCheckpointProcessGetRestoreThreadId)>);
static_assert(same<abi::cuCheckpointProcessGetState_t, decltype(cuCheckpointProcessGetState)>);
static_assert(same<abi::cuCheckpointProcessLock_t, decltype(cuCheckpointProcessLock)>);
static_assert(same<abi::cuCheckpointProcessCheckpoint_t, decltype(cuCheckpointProcessCheckpoint)>);
static_assert(same<abi::cuCheckpointProcessRestore_t, decltype(cuCheckpointProcessRestore)>);
static_assert(same<abi::cuCheckpointProcessUnlock_t, decltype(cuCheckpointProcessUnlock)>);
#endif

#define THAW_SAME_PLACE(type, field) \
  static_assert(offsetof(abi::type, field) == offsetof(type, field) && sizeof(abi::type::field) == sizeof(type::field))
static_assert(sizeof(abi::CUuuid) == sizeof(CUuuid));
static_assert(sizeof(abi::CUdeviceptr) == sizeof(CUdeviceptr));
static_assert(sizeof(abi::CUDA_MEMCPY2D) == sizeof(CUDA_MEMCPY2D));
THAW_SAME_PLACE(CUDA_MEMCPY2D, srcXInBytes);
THAW_SAME_PLACE(CUDA_MEMCPY2D, srcY);
THAW_SAME_PLACE(CUDA_MEMCPY2D, srcMemoryType);
THAW_SAME_PLACE(CUDA_MEMCPY2D, srcHost);
THAW_SAME_PLACE(CUDA_MEMCPY2D, srcDevice);
THAW_SAME_PLACE(CUDA_MEMCPY2D, srcArray);
THAW_SAME_PLACE(CUDA_MEMCPY2D, srcPitch);
THAW_SAME_PLACE(CUDA_MEMCPY2D, dstXInBytes);
THAW_SAME_PLACE(CUDA_MEMCPY2D, dstY);
THAW_SAME_PLACE(CUDA_MEMCPY2D, dstMemoryType);
THAW_SAME_PLACE(CUDA_MEMCPY2D, dstHost);
THAW_SAME_PLACE(CUDA_MEMCPY2D, dstDevice);
THAW_SAME_PLACE(CUDA_MEMCPY2D, dstArray);
THAW_SAME_PLACE(CUDA_MEMCPY2D, dstPitch);
THAW_SAME_PLACE(CUDA_MEMCPY2D, WidthInBytes);
THAW_SAME_PLACE(CUDA_MEMCPY2D, Height);
#if CUDA_VERSION >= 13000
static_assert(sizeof(abi::CUcheckpointLockArgs) == sizeof(CUcheckpointLockArgs));
THAW_SAME_PLACE(CUcheckpointLockArgs, timeoutMs);
THAW_SAME_PLACE(CUcheckpointLockArgs, reserved0);
THAW_SAME_PLACE(CUcheckpointLockArgs, reserved1);
static_assert(sizeof(abi::CUcheckpointCheckpointArgs) == sizeof(CUcheckpointCheckpointArgs));
THAW_SAME_PLACE(CUcheckpointCheckpointArgs, reserved);
static_assert(sizeof(abi::CUcheckpointGpuPair) == sizeof(CUcheckpointGpuPair));
THAW_SAME_PLACE(CUcheckpointGpuPair, oldUuid);
THAW_SAME_PLACE(CUcheckpointGpuPair, newUuid);
static_assert(sizeof(abi::CUcheckpointRestoreArgs) == sizeof(CUcheckpointRestoreArgs));
THAW_SAME_PLACE(CUcheckpointRestoreArgs, gpuPairs);
THAW_SAME_PLACE(CUcheckpointRestoreArgs, gpuPairsCount);
THAW_SAME_PLACE(CUcheckpointRestoreArgs, reserved);
THAW_SAME_PLACE(CUcheckpointRestoreArgs, reserved1);
static_assert(sizeof(abi::CUcheckpointUnlockArgs) == sizeof(CUcheckpointUnlockArgs));
THAW_SAME_PLACE(CUcheckpointUnlockArgs, reserved);
static_assert(abi::kCudaProcessRunning == CU_PROCESS_STATE_RUNNING &&
              abi::kCudaProcessLocked == CU_PROCESS_STATE_LOCKED);
static_assert(abi::kCudaProcessCheckpointed == CU_PROCESS_STATE_CHECKPOINTED &&
              abi::kCudaProcessFailed == CU_PROCESS_STATE_FAILED);
#endif

static_assert(abi::kCudaSuccess == CUDA_SUCCESS);
static_assert(abi::kCudaErrorInvalidValue == CUDA_ERROR_INVALID_VALUE);
static_assert(abi::kCudaErrorOutOfMemory == CUDA_ERROR_OUT_OF_MEMORY);
static_assert(abi::kCudaErrorNotInitialized == CUDA_ERROR_NOT_INITIALIZED);
static_assert(abi::kCudaErrorNoDevice == CUDA_ERROR_NO_DEVICE);
static_assert(abi::kCudaErrorInvalidDevice == CUDA_ERROR_INVALID_DEVICE);
static_assert(abi::kCudaErrorInvalidContext == CUDA_ERROR_INVALID_CONTEXT);
static_assert(abi::kCudaErrorOperatingSystem == CUDA_ERROR_OPERATING_SYSTEM);
static_assert(abi::kCudaErrorInvalidHandle == CUDA_ERROR_INVALID_HANDLE);
static_assert(abi::kCudaErrorIllegalState == CUDA_ERROR_ILLEGAL_STATE);
static_assert(abi::kCudaErrorNotReady == CUDA_ERROR_NOT_READY);
static_assert(abi::kCudaErrorHostMemoryAlreadyRegistered == CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
static_assert(abi::kCudaErrorHostMemoryNotRegistered == CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
static_assert(abi::kCudaErrorNotPermitted == CUDA_ERROR_NOT_PERMITTED);
static_assert(abi::kCudaErrorNotSupported == CUDA_ERROR_NOT_SUPPORTED);
static_assert(abi::kCudaHostPortable == CU_MEMHOSTREGISTER_PORTABLE &&
              abi::kCudaHostPortable == CU_MEMHOSTALLOC_PORTABLE);
static_assert(abi::kCudaStreamNonBlocking == CU_STREAM_NON_BLOCKING);
static_assert(abi::kCudaEventBlockingSync == CU_EVENT_BLOCKING_SYNC &&
              abi::kCudaEventDisableTiming == CU_EVENT_DISABLE_TIMING);
static_assert(abi::kCudaMemoryHost == CU_MEMORYTYPE_HOST && abi::kCudaMemoryDevice == CU_MEMORYTYPE_DEVICE);

#ifdef THAW_HAS_NVML_H
static_assert(same<abi::nvmlDeviceGetCount_v2_t, decltype(nvmlDeviceGetCount_v2)>);
static_assert(same<abi::nvmlDeviceGetHandleByIndex_v2_t, decltype(nvmlDeviceGetHandleByIndex_v2)>);
static_assert(same<abi::nvmlDeviceGetMemoryInfo_t, decltype(nvmlDeviceGetMemoryInfo)>);
static_assert(same<abi::nvmlDeviceGetComputeRunningProcesses_v3_t, decltype(nvmlDeviceGetComputeRunningProcesses_v3)>);
static_assert(sizeof(abi::nvmlMemory_t) == sizeof(nvmlMemory_t));
static_assert(sizeof(abi::nvmlProcessInfo_t) == sizeof(nvmlProcessInfo_t));
static_assert(abi::kNvmlErrorInsufficientSize == NVML_ERROR_INSUFFICIENT_SIZE);
#endif
