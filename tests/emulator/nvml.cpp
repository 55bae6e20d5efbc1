/// NVML's part that asks which devices there are and who computes on them.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <string>

#include "machine.h"
#include "node/device/cuda_abi.h"
#include "settings.h"

namespace {

using namespace thaw::node::cuda_abi;  // NOLINT(google-build-using-namespace): the names of NVIDIA's interface
using thaw::emulator::Machine;
using thaw::emulator::ProcessEntry;
using thaw::emulator::read_settings;
using thaw::emulator::Settings;

constexpr nvmlReturn_t kUninitialized = 1;
constexpr nvmlReturn_t kInvalidArgument = 2;

std::atomic<int> initializations = 0;  // NVML counts them, and may be called by any thread

nvmlReturn_t refusal(const Settings& settings, const char* function) {
  if (const int code = settings.failure(function); code != 0) return code;
  return initializations > 0 ? kNvmlSuccess : kUninitialized;
}

/// A handle is the device's index plus one: never null, never an address.
nvmlDevice_t handle_of(unsigned int index) {
  return reinterpret_cast<nvmlDevice_t>(static_cast<std::uintptr_t>(index) + 1);  // NOLINT(performance-no-int-to-ptr)
}
unsigned int index_of(nvmlDevice_t device) {
  return static_cast<unsigned int>(reinterpret_cast<std::uintptr_t>(device) - 1);
}

/// The driver that supports that version of CUDA.
const char* driver_version(int cuda_version) {
  if (cuda_version >= 13000) return "580.65.06";
  return cuda_version >= 12080 ? "570.86.10" : "550.54.15";
}

}  // namespace

THAW_EMULATED nvmlReturn_t nvmlInit_v2() {
  if (const int code = read_settings().failure("nvmlInit_v2"); code != 0) return code;
  ++initializations;
  return kNvmlSuccess;
}

THAW_EMULATED nvmlReturn_t nvmlShutdown() {
  for (int count = initializations; count > 0;)
    if (initializations.compare_exchange_weak(count, count - 1)) return kNvmlSuccess;
  return kUninitialized;
}

THAW_EMULATED const char* nvmlErrorString(nvmlReturn_t code) {
  switch (code) {
    case 9:
      return "Driver Not Loaded";
    case 12:
      return "Driver/library version mismatch";
    default:
      return "Emulated Error";
  }
}

THAW_EMULATED nvmlReturn_t nvmlSystemGetDriverVersion(char* version, unsigned int length) {
  const Settings settings = read_settings();
  std::snprintf(version, length, "%s", driver_version(settings.cuda_version));
  return refusal(settings, "nvmlSystemGetDriverVersion");
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

THAW_EMULATED nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char* name, unsigned int length) {
  const Settings settings = read_settings();
  std::snprintf(name, length, "%s", settings.name(static_cast<int>(index_of(device))).c_str());
  return refusal(settings, "nvmlDeviceGetName");
}

THAW_EMULATED nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char* uuid, unsigned int length) {
  std::snprintf(uuid, length, "%s", thaw::emulator::uuid_text(static_cast<int>(index_of(device))).c_str());
  return refusal(read_settings(), "nvmlDeviceGetUUID");
}

THAW_EMULATED nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t* memory) {
  const Settings settings = read_settings();
  const std::shared_ptr<Machine> machine = Machine::current();
  const std::uint64_t held = machine ? machine->held_bytes(static_cast<int>(index_of(device))) : 0;
  const std::uint64_t used = std::min(held, settings.memory_bytes);
  *memory = {settings.memory_bytes, settings.memory_bytes - used, used};
  return refusal(settings, "nvmlDeviceGetMemoryInfo");
}

THAW_EMULATED nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned int* minor) {
  *minor = index_of(device);
  return refusal(read_settings(), "nvmlDeviceGetMinorNumber");
}

#ifndef EMULATOR_OLD
THAW_EMULATED nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned int* count,
                                                                   nvmlProcessInfo_t* infos) {
  const Settings settings = read_settings();
  const unsigned int room = *count;
  *count = 0;
  const auto list = [&](unsigned int pid, std::uint64_t held_bytes) {
    if (*count < room) infos[*count] = {pid, held_bytes, ~0U, ~0U};
    ++*count;
  };
  for (const Settings::Process& process : settings.processes) {
    if (process.device == index_of(device)) list(process.pid, 1ULL << 30);
  }
  if (const std::shared_ptr<Machine> machine = Machine::current()) {
    machine->for_each([&](ProcessEntry& entry) {
      const unsigned int index = index_of(device);
      if ((entry.contexts.load() >> index & 1U) == 0) return;
      if (const pid_t pid = Machine::visible_pid(entry); pid != 0)
        list(static_cast<unsigned int>(pid), entry.held_bytes.at(index));
    });
  }
  if (*count > room) return kNvmlErrorInsufficientSize;
  return refusal(settings, "nvmlDeviceGetComputeRunningProcesses_v3");
}
#endif
