/// The driver API's part that asks which devices there are. Streams, memory and the checkpoint API have their place in files of their own beside this one.
#include <cstddef>
#include <cstdio>
#include <cstring>

#include "node/device/cuda_abi.h"
#include "settings.h"

namespace {

using namespace thaw::node::cuda_abi;  // NOLINT(google-build-using-namespace): the names of NVIDIA's interface
using thaw::emulator::read_settings;
using thaw::emulator::Settings;

constexpr CUresult kInvalidValue = 1;
constexpr CUresult kNotInitialized = 3;
constexpr CUresult kInvalidDevice = 101;

bool initialized = false;

/// The code a call is to fail with: an injected one, or that of a driver that was not initialised.
CUresult refusal(const Settings& settings, const char* function) {
  if (const int code = settings.failure(function); code != 0) return code;
  return initialized ? kCudaSuccess : kNotInitialized;
}

CUresult refusal(const Settings& settings, const char* function, CUdevice device) {
  if (const CUresult code = refusal(settings, function); code != kCudaSuccess) return code;
  return device >= 0 && device < settings.devices ? kCudaSuccess : kInvalidDevice;
}

}  // namespace

THAW_EMULATED CUresult cuInit(unsigned int flags) {
  const Settings settings = read_settings();
  if (const int code = settings.failure("cuInit"); code != 0) return code;
  if (flags != 0) return kInvalidValue;
  if (settings.devices == 0) return kCudaErrorNoDevice;
  initialized = true;
  return kCudaSuccess;
}

THAW_EMULATED CUresult cuDriverGetVersion(int* version) {
  *version = 12040;
  return read_settings().failure("cuDriverGetVersion");
}

THAW_EMULATED CUresult cuGetErrorString(CUresult error, const char** text) {
  switch (error) {
    case kCudaErrorNoDevice: *text = "no CUDA-capable device is detected"; break;
    case 999: *text = "unknown error"; break;
    default: *text = "emulated error"; break;
  }
  return kCudaSuccess;
}

THAW_EMULATED CUresult cuDeviceGetCount(int* count) {
  const Settings settings = read_settings();
  *count = settings.devices;
  return refusal(settings, "cuDeviceGetCount");
}

THAW_EMULATED CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  *device = ordinal;
  return refusal(read_settings(), "cuDeviceGet", ordinal);
}

THAW_EMULATED CUresult cuDeviceGetName(char* name, int length, CUdevice device) {
  const Settings settings = read_settings();
  if (length > 0) std::snprintf(name, static_cast<std::size_t>(length), "%s", settings.name.c_str());
  return refusal(settings, "cuDeviceGetName", device);
}

#ifndef EMULATOR_OLD
THAW_EMULATED CUresult cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice device) {
  thaw::emulator::fill_uuid(device, uuid->bytes);
  return refusal(read_settings(), "cuDeviceGetUuid_v2", device);
}
#endif

THAW_EMULATED CUresult cuDeviceTotalMem_v2(std::size_t* bytes, CUdevice device) {
  const Settings settings = read_settings();
  *bytes = settings.memory_bytes;
  return refusal(settings, "cuDeviceTotalMem_v2", device);
}
