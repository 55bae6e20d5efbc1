/// Checkpoints as the process that is checkpointed sees them: what its restore thread does.
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "process.h"

namespace thaw::emulator {

using namespace node::cuda_abi;  // NOLINT(google-build-using-namespace): the names of NVIDIA's interface

namespace {

using Clock = std::chrono::steady_clock;

/// How long a step over so many bytes takes.
Clock::duration length_of(const Command& command, std::uint64_t bytes) {
  const std::uint64_t by_rate_us = command.step_mb_s == 0 ? 0 : bytes / command.step_mb_s;
  return std::chrono::milliseconds(command.step_ms) + std::chrono::microseconds(by_rate_us);
}

int place_by_uuid(const CUuuid& uuid, int devices) {
  for (int place = 0; place < devices; ++place) {
    char bytes[16];
    fill_uuid(place, bytes);
    if (std::memcmp(bytes, uuid.bytes, sizeof bytes) == 0) return place;
  }
  return -1;
}

}  // namespace

CUresult Process::carry_out(const Command& command) {
  const std::lock_guard lock(steps_mutex_);
  switch (command.kind) {
    case Command::kLock:
      return lock_calls(command);
    case Command::kCheckpoint:
      return save(command);
    case Command::kRestore:
      return bring_back(command);
    default:
      break;
  }
  if (entry_.load()->state != kCudaProcessLocked) return kCudaErrorIllegalState;
  std::this_thread::sleep_for(length_of(command, 0));
  if (command.break_code != 0) return fail(command);
  entry_.load()->state = kCudaProcessRunning;
  gate_.open();
  return kCudaSuccess;
}

/// Its calls wait for ever: nothing but killing it helps.
CUresult Process::fail(const Command& command) {
  entry_.load()->state = kCudaProcessFailed;
  return command.break_code;
}

/// Holds new calls back and waits until all submitted work is done.
CUresult Process::lock_calls(const Command& command) {
  if (entry_.load()->state != kCudaProcessRunning) return kCudaErrorIllegalState;
  Gate::Deadline deadline;
  if (command.timeout_ms > 0) deadline = Clock::now() + std::chrono::milliseconds(command.timeout_ms);
  const Clock::time_point earliest = Clock::now() + length_of(command, 0);
  if (!gate_.close(deadline)) return kCudaErrorNotReady;
  bool idle = true;
  for (const auto& context : contexts_) idle = idle && (!context || context->engine.wait_idle(deadline));
  std::this_thread::sleep_until(deadline ? std::min(*deadline, earliest) : earliest);
  if (!idle || (deadline && earliest > *deadline)) {
    gate_.open();
    return kCudaErrorNotReady;
  }
  if (command.break_code != 0) return fail(command);
  entry_.load()->state = kCudaProcessLocked;
  return kCudaSuccess;
}

/// Device memory goes to the host, and the devices are given back.
CUresult Process::save(const Command& command) {
  ProcessEntry& entry = *entry_;
  if (entry.state != kCudaProcessLocked) return kCudaErrorIllegalState;
  const std::lock_guard lock(mutex_);
  std::uint64_t total_bytes = 0;
  for (auto& [address, allocation] : allocations_) {
    void* const saved = ::mmap(nullptr, allocation.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (saved == MAP_FAILED) ::abort();
    allocation.saved = static_cast<std::byte*>(saved);
    std::memcpy(allocation.saved, allocation.backing, allocation.bytes);
    if (allocation.placed) {
      machine_->give_back(entry, place_of(allocation.context->home), allocation.backing, allocation.bytes);
      allocation.backing = nullptr;
    } else {
      ::madvise(allocation.backing, allocation.bytes, MADV_DONTNEED);
    }
    total_bytes += allocation.bytes;
    if (command.break_code != 0) return fail(command);
  }
  if (command.break_code != 0) return fail(command);
  std::this_thread::sleep_for(length_of(command, total_bytes));
  for (std::size_t place = 0; place < entry.held_bytes.size(); ++place)
    entry.saved_bytes.at(place) = entry.held_bytes.at(place).exchange(0);
  entry.contexts = 0;
  entry.state = kCudaProcessCheckpointed;
  return kCudaSuccess;
}

/// Where each context comes back.
CUresult Process::choose_places(const Command& command, Places* places) const {
  const Settings settings = read_settings();
  for (std::size_t home = 0; home < places->size(); ++home) places->at(home) = moved_.at(home);
  if (command.pairs == 0) return kCudaSuccess;
  unsigned taken = 0;
  for (std::size_t home = 0; home < places->size(); ++home) {
    if (!contexts_.at(home) || contexts_.at(home)->retained == 0) continue;
    const int old_place = moved_.at(home);
    int new_place = -1;
    for (unsigned i = 0; i < command.pairs; ++i) {
      if (place_by_uuid(command.pair.at(i).oldUuid, settings.devices) == old_place)
        new_place = place_by_uuid(command.pair.at(i).newUuid, settings.devices);
    }
    // Every device of the checkpoint must be named, and each comes back on one of its own kind that no other comes back
    // on.
    if (new_place < 0 || settings.name(new_place) != settings.name(old_place) ||
        (taken >> static_cast<unsigned>(new_place) & 1U) != 0)
      return kCudaErrorInvalidValue;
    taken |= 1U << static_cast<unsigned>(new_place);
    places->at(home) = new_place;
  }
  return kCudaSuccess;
}

/// All of them or none.
CUresult Process::reserve_places(const Places& places) {
  ProcessEntry& entry = *entry_;
  const std::uint64_t limit_bytes = read_settings().memory_bytes;
  for (std::size_t home = 0; home < places.size(); ++home) {
    if (!contexts_.at(home) || contexts_.at(home)->retained == 0) continue;
    const std::uint64_t bytes = entry.saved_bytes.at(static_cast<std::size_t>(moved_.at(home)));
    if (machine_->reserve(entry, places.at(home), bytes, limit_bytes)) continue;
    for (auto& held : entry.held_bytes) held = 0;
    return kCudaErrorOutOfMemory;
  }
  return kCudaSuccess;
}

CUresult Process::bring_back(const Command& command) {
  ProcessEntry& entry = *entry_;
  if (entry.state != kCudaProcessCheckpointed) return kCudaErrorIllegalState;
  // Seen with driver 580: once a restore has failed for want of memory, none succeeds any more
  // (https://github.com/NVIDIA/cuda-checkpoint/issues/44).
  if (restore_spoilt_) return kCudaErrorOperatingSystem;
  const std::lock_guard lock(mutex_);
  Places places{};
  if (const CUresult code = choose_places(command, &places); code != kCudaSuccess) return code;
  if (const CUresult code = reserve_places(places); code != kCudaSuccess) {
    restore_spoilt_ = true;
    return code;
  }
  std::uint64_t total_bytes = 0;
  for (auto& [address, allocation] : allocations_) {
    if (command.break_code != 0) return fail(command);
    if (allocation.placed) {
      const std::size_t home = static_cast<std::size_t>(allocation.context->home);
      allocation.backing = machine_->place(entry, places.at(home), allocation.bytes, read_settings().memory_bytes);
      if (allocation.backing == nullptr) ::abort();  // what was reserved above is there
    }
    std::memcpy(allocation.backing, allocation.saved, allocation.bytes);
    ::munmap(allocation.saved, allocation.bytes);
    allocation.saved = nullptr;
    total_bytes += allocation.bytes;
  }
  if (command.break_code != 0) return fail(command);
  std::this_thread::sleep_for(length_of(command, total_bytes));
  for (std::size_t home = 0; home < places.size(); ++home) moved_.at(home) = places.at(home);
  for (auto& bytes : entry.saved_bytes) bytes = 0;
  for (const auto& context : contexts_) {
    if (context && context->retained > 0) entry.contexts |= 1U << static_cast<unsigned>(place_of(context->home));
  }
  entry.state = kCudaProcessLocked;
  return kCudaSuccess;
}

}  // namespace thaw::emulator
