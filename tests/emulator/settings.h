#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace thaw::emulator {

/// What machine is pretended. Each setting is read at each call, from the file `settings` in THAW_EMULATOR_DIR (lines
/// NAME=VALUE), else from the environment, so that a test can change it at any time, also for processes that run
/// already. Names without THAW_EMULATOR_ in front:
///
///     DIR=/tmp/machine        processes with the same directory share one machine: its memory, and who computes on it;
///                             without it each has one for itself (environment only)
///     DEVICES=2               how many GPUs (default 1)
///     MEMORY_MIB=81920        of each (default 16384)
///     CONTEXT_MIB=500         of it, what a process's context takes (default 128)
///     NAME=NVIDIA A100,L4     of each device; the last is that of all further ones (default "Emulated GPU")
///     CUDA=12040              what the driver supports (default 13000); before 12080 it refuses checkpoints, before
///                             13000 to restore on other devices
///     LEFTOVERS=1             memory that is given back keeps its contents for who takes it next, also of a process that was killed (default:
///                             cleared, as NVIDIA's driver does); needs DIR
///     PROCESSES=0:1234,1:77   further compute processes that NVML lists: device index and pid
///
///     BUS_MB_S=2500           rate of each device's bus, 10^6 bytes a second (default 0: as fast as memory is)
///     PAGEABLE_MB_S=1000      the same for memory that is not pinned (default: half of it)
///     PIN_MB_S=1500           how fast memory is pinned (default 0: at once)
///     LOCK_MS, CHECKPOINT_MS, RESTORE_MS, UNLOCK_MS   how long these steps take (default 0) …
///     CHECKPOINT_MB_S, RESTORE_MB_S                   … and besides, for each byte (default 0: nothing)
///
///     FAIL=cuInit=999,nvmlInit_v2=12   functions that return this code instead
///     FAIL=cuMemAlloc_v2=2@3           only the third call since thawEmulatorReset(); `2@3+`: from the third on
///     FAIL=copy=700@3                  the third copy fails where it is carried out, after its call has returned
///     BREAK=cuCheckpointProcessRestore=999   the step fails half-way, and the process is FAILED
///
/// And CUDA_VISIBLE_DEVICES=1,GPU-a0a1…, as the real driver takes it.
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
  bool leftovers = false;
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
