/// Checkpoints as the process sees them that asks for one. checkpoint_steps.cpp has the other side.
#include <unistd.h>

#include <algorithm>
#include <array>

#include "process.h"

namespace {

using namespace thaw::node::cuda_abi;  // NOLINT(google-build-using-namespace): the names of NVIDIA's interface
using thaw::emulator::Command;
using thaw::emulator::kMaxDevices;
using thaw::emulator::Machine;
using thaw::emulator::Process;
using thaw::emulator::ProcessEntry;
using thaw::emulator::read_settings;
using thaw::emulator::Settings;

constexpr int kFirstWithCheckpoints = 12080;
constexpr int kFirstWithPairs = 13000;

/// Runs `body` with the process that is meant, unless the call is to be refused.
template <typename Body>
CUresult of_process(const char* function, int pid, Body body) {
  const Settings settings = read_settings();
  if (const int code = settings.failure(function); code != 0) return code;
  if (!Process::self().initialized()) return kCudaErrorNotInitialized;
  if (settings.cuda_version < kFirstWithCheckpoints) return kCudaErrorNotSupported;
  const std::shared_ptr<Machine> machine = Machine::current();
  ProcessEntry* const entry = machine ? machine->find(pid) : nullptr;
  if (entry == nullptr) return kCudaErrorInvalidValue;
  return body(settings, *machine, *entry);
}

/// Has the step carried out: by that process's restore thread, or here if it is this process.
CUresult carry_out(const char* function, int pid, Command command, Settings::Step Settings::*length) {
  return of_process(function, pid, [&](const Settings& settings, Machine& machine, ProcessEntry& entry) {
    command.step_ms = (settings.*length).ms;
    command.step_mb_s = (settings.*length).mb_s;
    command.break_code = settings.broken(function);
    Process& process = Process::self();
    return process.entry() == &entry ? process.carry_out(command) : machine.ask(entry, command);
  });
}

template <typename Words>
bool all_zero(const Words& words) {
  return std::all_of(std::begin(words), std::end(words), [](auto word) { return word == 0; });
}

}  // namespace

THAW_EMULATED CUresult cuCheckpointProcessGetRestoreThreadId(int pid, int* tid) {
  return of_process("cuCheckpointProcessGetRestoreThreadId", pid, [&](const Settings&, Machine&, ProcessEntry& entry) {
    *tid = entry.restore_tid;
    return kCudaSuccess;
  });
}

THAW_EMULATED CUresult cuCheckpointProcessGetState(int pid, int* state) {
  return of_process("cuCheckpointProcessGetState", pid, [&](const Settings&, Machine&, ProcessEntry& entry) {
    *state = entry.state;
    return kCudaSuccess;
  });
}

THAW_EMULATED CUresult cuCheckpointProcessLock(int pid, CUcheckpointLockArgs* args) {
  if (args != nullptr && (args->reserved0 != 0 || !all_zero(args->reserved1))) return kCudaErrorInvalidValue;
  Command command;
  command.kind = Command::kLock;
  if (args != nullptr) command.timeout_ms = args->timeoutMs;
  return carry_out("cuCheckpointProcessLock", pid, command, &Settings::lock);
}

THAW_EMULATED CUresult cuCheckpointProcessCheckpoint(int pid, CUcheckpointCheckpointArgs* args) {
  if (args != nullptr && !all_zero(args->reserved)) return kCudaErrorInvalidValue;
  Command command;
  command.kind = Command::kCheckpoint;
  return carry_out("cuCheckpointProcessCheckpoint", pid, command, &Settings::checkpoint);
}

THAW_EMULATED CUresult cuCheckpointProcessRestore(int pid, CUcheckpointRestoreArgs* args) {
  Command command;
  command.kind = Command::kRestore;
  if (args != nullptr) {
    if (!all_zero(args->reserved) || args->reserved1 != 0 || args->gpuPairsCount > kMaxDevices)
      return kCudaErrorInvalidValue;
    // An older driver takes them for something reserved.
    if (args->gpuPairsCount > 0 && (args->gpuPairs == nullptr || read_settings().cuda_version < kFirstWithPairs))
      return kCudaErrorInvalidValue;
    command.pairs = args->gpuPairsCount;
    std::copy_n(args->gpuPairs, args->gpuPairsCount, command.pair.begin());
  }
  return carry_out("cuCheckpointProcessRestore", pid, command, &Settings::restore);
}

THAW_EMULATED CUresult cuCheckpointProcessUnlock(int pid, CUcheckpointUnlockArgs* args) {
  if (args != nullptr && !all_zero(args->reserved)) return kCudaErrorInvalidValue;
  Command command;
  command.kind = Command::kUnlock;
  return carry_out("cuCheckpointProcessUnlock", pid, command, &Settings::unlock);
}
