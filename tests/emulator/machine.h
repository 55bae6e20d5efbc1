#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "node/device/cuda_abi.h"

/// The pretended machine: who holds how much of which device. With THAW_EMULATOR_DIR it is a file that all processes
/// with that directory map, so that the memory of a device is theirs together and one can checkpoint another; without,
/// it is the process's own.
namespace thaw::emulator {

constexpr int kMaxDevices = 16;
constexpr int kMaxProcesses = 64;

/// A step that one process asks another's restore thread to carry out.
struct Command {
  enum Kind : int { kLock, kCheckpoint, kRestore, kUnlock };
  int kind = kLock;
  unsigned int timeout_ms = 0;  ///< of kLock; 0: none
  unsigned int pairs = 0;       ///< of kRestore
  std::array<node::cuda_abi::CUcheckpointGpuPair, kMaxDevices> pair{};
  std::uint64_t step_ms = 0;    ///< how long it takes
  std::uint64_t step_mb_s = 0;  ///< and besides, for each byte
  int break_code = 0;           ///< it fails half-way
};

/// One process that has initialised the driver. In shared memory; what is atomic is read by others without a lock.
struct ProcessEntry {
  std::atomic<int> used;
  int pid;                      ///< as the process itself sees it …
  std::uint64_t pid_namespace;  ///< … in this namespace
  std::atomic<int> restore_tid;
  std::atomic<int> state;                                           ///< kCudaProcess…
  std::array<std::atomic<std::uint64_t>, kMaxDevices> held_bytes;   ///< contexts and memory, by device
  std::array<std::atomic<std::uint64_t>, kMaxDevices> saved_bytes;  ///< what a checkpoint holds of each
  std::atomic<std::uint32_t> contexts;  ///< a bit for each device with a context, held or saved

  Command command;
  int result;
  std::atomic<std::uint32_t> asked;     ///< counts commands; futex of the restore thread
  std::atomic<std::uint32_t> answered;  ///< follows it; futex of who asked
};

/// Where a process's memory lies on its device. Of a process that lives no more the place is free, and what it wrote is still there.
struct Extent {
  bool used;
  int process;  ///< its index
  std::uint64_t start, bytes;
};
constexpr int kMaxExtents = 1024;  // of a device; a machine that keeps leftovers has no more allocations at a time

struct SharedMachine {
  std::array<ProcessEntry, kMaxProcesses> processes;
  std::array<std::array<Extent, kMaxExtents>, kMaxDevices> extents;
};

class Machine {
 public:
  /// The machine that THAW_EMULATOR_DIR names now.
  static std::shared_ptr<Machine> current();
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  [[nodiscard]] const std::string& directory() const { return directory_; }
  /// The entry of a new process, whose life is then watched by a file lock; null when the table is full.
  ProcessEntry* enter();
  /// The living process with that pid, as the caller sees pids; null without one.
  ProcessEntry* find(pid_t pid);
  [[nodiscard]] bool lives(const ProcessEntry& entry) const;
  /// The pid of an entry as the caller sees it; 0 when it cannot.
  static pid_t visible_pid(const ProcessEntry& entry);

  /// Takes bytes of a device for a process; false when there are not so many left of `limit_bytes`.
  bool reserve(ProcessEntry& entry, int device, std::uint64_t bytes, std::uint64_t limit_bytes);
  std::uint64_t held_bytes(int device);

  /// Memory of a device that all processes share, at the lowest free place, with whatever is there; null when there is none. Whole pages.
  std::byte* place(ProcessEntry& entry, int device, std::uint64_t bytes, std::uint64_t limit_bytes);
  /// What place() gave: unmapped, and free.
  void give_back(ProcessEntry& entry, int device, std::byte* memory, std::uint64_t bytes);
  void for_each(const std::function<void(ProcessEntry&)>& visit);

  /// Has a process's restore thread carry a command out; waits for it, however long it takes: for ever when the process
  /// is stopped.
  int ask(ProcessEntry& entry, const Command& command);

 private:
  class TableLock;
  Machine(std::string directory, int fd, SharedMachine* shared)
      : directory_(std::move(directory)), fd_(fd), shared_(shared) {}
  static std::shared_ptr<Machine> open(const std::string& directory);
  [[nodiscard]] int index_of(const ProcessEntry& entry) const;
  std::uint64_t sum_held(int device);

  std::string directory_;
  std::map<const std::byte*, std::uint64_t> placed_;  ///< starts of what this process has mapped; under the table's lock
  int fd_;
  SharedMachine* shared_;
  std::mutex mutex_;  ///< file locks exclude other processes, this other threads
};

/// Sleeps until the word is no longer `seen`, or for a while.
void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t seen);
void futex_wake(std::atomic<std::uint32_t>& word);

}  // namespace thaw::emulator
