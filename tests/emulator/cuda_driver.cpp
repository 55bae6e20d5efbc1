/// The driver API's part that asks which devices there are. None of it waits while the process is locked: it changes
/// nothing on a device.
#include <cstddef>
#include <cstdio>
#include <cstring>

#include "process.h"

namespace {

using namespace thaw::node::cuda_abi;  // NOLINT(google-build-using-namespace): the names of NVIDIA's interface
using thaw::emulator::Process;
using thaw::emulator::read_settings;
using thaw::emulator::Settings;

/// The code a call is to fail with: an injected one, or that of a driver that was not initialised.
CUresult refusal(const Settings& settings, const char* function) {
  if (const int code = settings.failure(function); code != 0) return code;
  return Process::self().initialized() ? kCudaSuccess : kCudaErrorNotInitialized;
}

CUresult refusal(const Settings& settings, const char* function, CUdevice device) {
  if (const CUresult code = refusal(settings, function); code != kCudaSuccess) return code;
  return device >= 0 && device < static_cast<int>(settings.visible().size()) ? kCudaSuccess : kCudaErrorInvalidDevice;
}

/// Where in the machine the device is that this process calls so.
int place_of(const Settings& settings, CUdevice device) {
  return Process::self().place_of(settings.visible().at(static_cast<std::size_t>(device)));
}

}  // namespace

THAW_EMULATED CUresult cuInit(unsigned int flags) {
  const Settings settings = read_settings();
  if (const int code = settings.failure("cuInit"); code != 0) return code;
  if (flags != 0) return kCudaErrorInvalidValue;
  if (settings.visible().empty()) return kCudaErrorNoDevice;
  return Process::self().initialize();
}

THAW_EMULATED CUresult cuDriverGetVersion(int* version) {
  const Settings settings = read_settings();
  *version = settings.cuda_version;
  return settings.failure("cuDriverGetVersion");
}

THAW_EMULATED CUresult cuDeviceGetCount(int* count) {
  const Settings settings = read_settings();
  *count = static_cast<int>(settings.visible().size());
  return refusal(settings, "cuDeviceGetCount");
}

THAW_EMULATED CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  *device = ordinal;
  return refusal(read_settings(), "cuDeviceGet", ordinal);
}

THAW_EMULATED CUresult cuDeviceGetName(char* name, int length, CUdevice device) {
  const Settings settings = read_settings();
  if (const CUresult code = refusal(settings, "cuDeviceGetName", device); code != kCudaSuccess) return code;
  if (length > 0)
    std::snprintf(name, static_cast<std::size_t>(length), "%s", settings.name(place_of(settings, device)).c_str());
  return kCudaSuccess;
}

#ifndef EMULATOR_OLD
THAW_EMULATED CUresult cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice device) {
  const Settings settings = read_settings();
  if (const CUresult code = refusal(settings, "cuDeviceGetUuid_v2", device); code != kCudaSuccess) return code;
  thaw::emulator::fill_uuid(place_of(settings, device), uuid->bytes);
  return kCudaSuccess;
}
#endif

THAW_EMULATED CUresult cuDeviceTotalMem_v2(std::size_t* bytes, CUdevice device) {
  const Settings settings = read_settings();
  *bytes = settings.memory_bytes;
  return refusal(settings, "cuDeviceTotalMem_v2", device);
}

THAW_EMULATED CUresult cuGetErrorString(CUresult error, const char** text) {
  switch (error) {
    case kCudaSuccess:
      *text = "no error";
      break;
    case kCudaErrorInvalidValue:
      *text = "invalid argument";
      break;
    case kCudaErrorOutOfMemory:
      *text = "out of memory";
      break;
    case kCudaErrorNotInitialized:
      *text = "initialization error";
      break;
    case kCudaErrorNoDevice:
      *text = "no CUDA-capable device is detected";
      break;
    case kCudaErrorInvalidDevice:
      *text = "invalid device ordinal";
      break;
    case kCudaErrorInvalidContext:
      *text = "invalid device context";
      break;
    case kCudaErrorOperatingSystem:
      *text = "OS call failed or operation not supported on this OS";
      break;
    case kCudaErrorInvalidHandle:
      *text = "invalid resource handle";
      break;
    case kCudaErrorIllegalState:
      *text = "the operation cannot be performed in the present state";
      break;
    case kCudaErrorNotReady:
      *text = "device not ready";
      break;
    case 700:
      *text = "an illegal memory access was encountered";
      break;
    case kCudaErrorHostMemoryAlreadyRegistered:
      *text = "part or all of the requested memory range is already mapped";
      break;
    case kCudaErrorHostMemoryNotRegistered:
      *text = "pointer does not correspond to a registered memory region";
      break;
    case kCudaErrorNotPermitted:
      *text = "operation not permitted";
      break;
    case kCudaErrorNotSupported:
      *text = "operation not supported";
      break;
    case 999:
      *text = "unknown error";
      break;
    default:
      *text = nullptr;
      return kCudaErrorInvalidValue;
  }
  return kCudaSuccess;
}
