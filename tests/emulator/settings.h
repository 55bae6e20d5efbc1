#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace thaw::emulator {

/// What machine is pretended, read from the environment at each call, so that a test can change it at any time:
///
///     THAW_EMULATOR_DEVICES=2                   how many GPUs (default 1)
///     THAW_EMULATOR_MEMORY_MIB=81920            of each (default 16384)
///     THAW_EMULATOR_NAME=NVIDIA A100            (default "Emulated GPU")
///     THAW_EMULATOR_FAIL=cuInit=999,nvmlInit_v2=12   functions that return this code instead
///     THAW_EMULATOR_PROCESSES=0:1234,1:77       compute processes: device index and pid
struct Settings {
  struct Failure { std::string function; int code = 0; };
  struct Process { unsigned int device = 0; unsigned int pid = 0; };

  int devices = 1;
  std::uint64_t memory_bytes = 0;
  std::string name;
  std::vector<Failure> failures;
  std::vector<Process> processes;

  /// The code that `function` is to return; 0 when it is to work.
  [[nodiscard]] int failure(const char* function) const;
};

Settings read_settings();

/// Sixteen bytes that differ between devices; both libraries name a device by the same.
void fill_uuid(int device, char* bytes);

}  // namespace thaw::emulator

/// A function of the emulated library: found by dlsym under its own name.
#define THAW_EMULATED extern "C" __attribute__((visibility("default")))
