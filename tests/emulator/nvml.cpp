/// NVML's part that asks which devices there are and who computes on them.
#include <cstdint>
#include <cstdio>
#include <string>

#include "node/device/cuda_abi.h"
#include "settings.h"

namespace {

using namespace thaw::node::cuda_abi;  // NOLINT(google-build-using-namespace): the names of NVIDIA's interface
using thaw::emulator::read_settings;
using thaw::emulator::Settings;

constexpr nvmlReturn_t kUninitialized = 1;
constexpr nvmlReturn_t kInvalidArgument = 2;

int initializations = 0;  // NVML counts them

nvmlReturn_t refusal(const Settings& settings, const char* function) {
  if (const int code = settings.failure(function); code != 0) return code;
  return initializations > 0 ? kNvmlSuccess : kUninitialized;
}

/// A handle is the device's index plus one: never null, never an address.
nvmlDevice_t handle_of(unsigned int index) {
  return reinterpret_cast<nvmlDevice_t>(static_cast<std::uintptr_t>(index) + 1);  // NOLINT(performance-no-int-to-ptr)
}
unsigned int index_of(nvmlDevice_t device) { return static_cast<unsigned int>(reinterpret_cast<std::uintptr_t>(device) - 1); }

}  // namespace

THAW_EMULATED nvmlReturn_t nvmlInit_v2() {
  if (const int code = read_settings().failure("nvmlInit_v2"); code != 0) return code;
  ++initializations;
  return kNvmlSuccess;
}

THAW_EMULATED nvmlReturn_t nvmlShutdown() {
  if (initializations == 0) return kUninitialized;
  --initializations;
  return kNvmlSuccess;
}

THAW_EMULATED const char* nvmlErrorString(nvmlReturn_t code) {
  switch (code) {
    case 9: return "Driver Not Loaded";
    case 12: return "Driver/library version mismatch";
    default: return "Emulated Error";
  }
}

THAW_EMULATED nvmlReturn_t nvmlSystemGetDriverVersion(char* version, unsigned int length) {
  std::snprintf(version, length, "550.54.15");
  return refusal(read_settings(), "nvmlSystemGetDriverVersion");
}

THAW_EMULATED nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int* count) {
  const Settings settings = read_settings();
  *count = static_cast<unsigned int>(settings.devices);
  return refusal(settings, "nvmlDeviceGetCount_v2");
}

THAW_EMULATED nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t* device) {
  const Settings settings = read_settings();
  if (index >= static_cast<unsigned int>(settings.devices)) return kInvalidArgument;
  *device = handle_of(index);
  return refusal(settings, "nvmlDeviceGetHandleByIndex_v2");
}

THAW_EMULATED nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t, char* name, unsigned int length) {
  const Settings settings = read_settings();
  std::snprintf(name, length, "%s", settings.name.c_str());
  return refusal(settings, "nvmlDeviceGetName");
}

THAW_EMULATED nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char* uuid, unsigned int length) {
  char bytes[16];
  thaw::emulator::fill_uuid(static_cast<int>(index_of(device)), bytes);
  std::string text = "GPU-";
  for (int i = 0; i < 16; ++i) {
    char pair[4];
    std::snprintf(pair, sizeof pair, "%02x", static_cast<unsigned int>(static_cast<unsigned char>(bytes[i])));
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += pair;
  }
  std::snprintf(uuid, length, "%s", text.c_str());
  return refusal(read_settings(), "nvmlDeviceGetUUID");
}

THAW_EMULATED nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t, nvmlMemory_t* memory) {
  const Settings settings = read_settings();
  *memory = {settings.memory_bytes, settings.memory_bytes, 0};
  return refusal(settings, "nvmlDeviceGetMemoryInfo");
}

THAW_EMULATED nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned int* minor) {
  *minor = index_of(device);
  return refusal(read_settings(), "nvmlDeviceGetMinorNumber");
}

#ifndef EMULATOR_OLD
THAW_EMULATED nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int* count, nvmlProcessInfo_t* infos) {
  const Settings settings = read_settings();
  const unsigned int room = *count;
  *count = 0;
  for (const Settings::Process& process : settings.processes) {
    if (process.device != index_of(device)) continue;
    if (*count < room) infos[*count] = {process.pid, 1ULL << 30, ~0U, ~0U};
    ++*count;
  }
  if (*count > room) return kNvmlErrorInsufficientSize;
  return refusal(settings, "nvmlDeviceGetComputeRunningProcesses_v3");
}
#endif
