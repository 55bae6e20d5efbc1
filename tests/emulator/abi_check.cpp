/// Compiled where CUDA's headers are installed: thaw's own declarations of the driver API (and of NVML, where nvml.h is there too) must agree with them.
#include <cuda.h>

#include <type_traits>
#if __has_include(<nvml.h>)
#include <nvml.h>
#define THAW_HAS_NVML_H 1
#endif

#include "node/device/cuda_abi.h"

namespace abi = thaw::node::cuda_abi;

/// The same calling convention: enums and ints are passed alike, and so are pointers to structures of one layout.
template <typename T>
struct Plain { using type = T; };
template <typename T>
  requires std::is_enum_v<T>
struct Plain<T> { using type = int; };
template <>
struct Plain<CUuuid*> { using type = abi::CUuuid*; };
#ifdef THAW_HAS_NVML_H
template <>
struct Plain<nvmlDevice_t> { using type = abi::nvmlDevice_t; };
template <>
struct Plain<nvmlDevice_t*> { using type = abi::nvmlDevice_t*; };
template <>
struct Plain<nvmlMemory_t*> { using type = abi::nvmlMemory_t*; };
template <>
struct Plain<nvmlProcessInfo_t*> { using type = abi::nvmlProcessInfo_t*; };
#endif

template <typename Function>
struct Signature;
template <typename Return, typename... Args>
struct Signature<Return(Args...)> { using type = typename Plain<Return>::type(typename Plain<Args>::type...); };

template <typename Ours, typename Theirs>
constexpr bool same = std::is_same_v<Ours, typename Signature<Theirs>::type>;

// cuDeviceTotalMem and cuDeviceGetUuid are macros there that name the versioned functions.
#define THAW_TEXT_(name) #name
#define THAW_TEXT(name) THAW_TEXT_(name)
constexpr bool equal(const char* a, const char* b) { return *a == *b && (*a == '\0' || equal(a + 1, b + 1)); }
static_assert(equal(THAW_TEXT(cuDeviceTotalMem), "cuDeviceTotalMem_v2"));

static_assert(same<abi::cuInit_t, decltype(cuInit)>);
static_assert(same<abi::cuDriverGetVersion_t, decltype(cuDriverGetVersion)>);
static_assert(same<abi::cuGetErrorString_t, decltype(cuGetErrorString)>);
static_assert(same<abi::cuDeviceGetCount_t, decltype(cuDeviceGetCount)>);
static_assert(same<abi::cuDeviceGet_t, decltype(cuDeviceGet)>);
static_assert(same<abi::cuDeviceGetName_t, decltype(cuDeviceGetName)>);
static_assert(same<abi::cuDeviceGetUuid_v2_t, decltype(cuDeviceGetUuid)>);
static_assert(same<abi::cuDeviceTotalMem_v2_t, decltype(cuDeviceTotalMem)>);
static_assert(sizeof(abi::CUuuid) == sizeof(CUuuid));
static_assert(abi::kCudaSuccess == CUDA_SUCCESS && abi::kCudaErrorNoDevice == CUDA_ERROR_NO_DEVICE);

#ifdef THAW_HAS_NVML_H
static_assert(same<abi::nvmlDeviceGetCount_v2_t, decltype(nvmlDeviceGetCount_v2)>);
static_assert(same<abi::nvmlDeviceGetHandleByIndex_v2_t, decltype(nvmlDeviceGetHandleByIndex_v2)>);
static_assert(same<abi::nvmlDeviceGetMemoryInfo_t, decltype(nvmlDeviceGetMemoryInfo)>);
static_assert(same<abi::nvmlDeviceGetComputeRunningProcesses_v3_t, decltype(nvmlDeviceGetComputeRunningProcesses_v3)>);
static_assert(sizeof(abi::nvmlMemory_t) == sizeof(nvmlMemory_t));
static_assert(sizeof(abi::nvmlProcessInfo_t) == sizeof(nvmlProcessInfo_t));
static_assert(abi::kNvmlErrorInsufficientSize == NVML_ERROR_INSUFFICIENT_SIZE);
#endif
