#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace thaw::emulator {

/// What machine is pretended, read at each call from the file `settings` in THAW_EMULATOR_DIR (lines NAME=VALUE), else
/// from the environment, so that a test can change it at any time, also for processes that run already:
///
///     THAW_EMULATOR_DIR=/tmp/machine            processes with the same directory share one machine: its memory, and
///     who computes on it; without
///                                               it each process has one for itself
///     THAW_EMULATOR_DEVICES=2                   how many GPUs (default 1)
///     THAW_EMULATOR_MEMORY_MIB=81920            of each (default 16384)
///     THAW_EMULATOR_CONTEXT_MIB=500             of it, what a process's context takes (default 128)
///     THAW_EMULATOR_NAME=NVIDIA A100,NVIDIA L4  of each device; the last is that of all further ones (default
///     "Emulated GPU") THAW_EMULATOR_CUDA=12040                  what the driver supports (default 13000); before 12080
///     it refuses checkpoints, before 13000 to
///                                               restore on other devices
///     THAW_EMULATOR_PROCESSES=0:1234,1:77       further compute processes that NVML lists: device index and pid
///     CUDA_VISIBLE_DEVICES=1,GPU-a0a1…          as the real driver takes it
///
///     THAW_EMULATOR_BUS_MB_S=2500               rate of each device's bus, megabytes (10^6) a second (default 0: as
///     fast as memory is) THAW_EMULATOR_PAGEABLE_MB_S=1000          the same for memory that is not pinned (default
///     half of it) THAW_EMULATOR_PIN_MB_S=1500               how fast memory is pinned (default 0: at once)
///     THAW_EMULATOR_LOCK_MS, _CHECKPOINT_MS, _RESTORE_MS, _UNLOCK_MS     how long these take (default 0) …
///     THAW_EMULATOR_CHECKPOINT_MB_S, _RESTORE_MB_S                       … and besides, for each byte (default 0:
///     nothing)
///
///     THAW_EMULATOR_FAIL=cuInit=999,nvmlInit_v2=12    functions that return this code instead
///     THAW_EMULATOR_FAIL=cuMemAlloc_v2=2@3            only the third call, counted from thawEmulatorReset(); `2@3+`:
///     from the third on THAW_EMULATOR_FAIL=copy=700@3                   the third copy fails where it is carried out,
///     after the call has returned THAW_EMULATOR_BREAK=cuCheckpointProcessRestore=999   the step fails half-way, and
///     the process is FAILED
struct Settings {
  struct Failure {
    std::string function;
    int code = 0;
    std::uint64_t from = 1;  ///< which calls, from 1
    std::uint64_t to = UINT64_MAX;
  };
  struct Process {
    unsigned int device = 0;
    unsigned int pid = 0;
  };
  /// How long one step of a checkpoint takes.
  struct Step {
    std::uint64_t ms = 0;
    std::uint64_t mb_s = 0;
  };

  int devices = 1;
  std::uint64_t memory_bytes = 0;
  std::uint64_t context_bytes = 0;
  int cuda_version = 0;
  std::vector<std::string> names;
  std::string visible_devices;
  bool all_visible = true;
  std::vector<Process> processes;

  std::uint64_t bus_mb_s = 0;
  std::uint64_t pageable_mb_s = 0;
  std::uint64_t pin_mb_s = 0;
  Step lock, checkpoint, restore, unlock;

  std::vector<Failure> failures;
  std::vector<Failure> breaks;

  /// The code that `function` is to return; 0 when it is to work. Counts the call.
  [[nodiscard]] int failure(const char* function) const;
  /// The code with which the step is to break off; 0 when it is to work.
  [[nodiscard]] int broken(const char* function) const;
  [[nodiscard]] const std::string& name(int device) const;
  /// The devices that this process may use, in its order, by their place in the machine.
  [[nodiscard]] std::vector<int> visible() const;
};

Settings read_settings();

/// The directory that the machine's processes share; empty without one.
std::string machine_directory();

/// Calls are counted from here.
void reset_call_counts();

/// Sixteen bytes that differ between devices; both libraries name a device by the same.
void fill_uuid(int device, char* bytes);
/// "GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"
std::string uuid_text(int device);

}  // namespace thaw::emulator

/// A function of the emulated library: found by dlsym under its own name.
#define THAW_EMULATED extern "C" __attribute__((visibility("default")))
