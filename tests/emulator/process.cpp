#include "process.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <iterator>
#include <thread>

namespace thaw::emulator {

using namespace node::cuda_abi;  // NOLINT(google-build-using-namespace): the names of NVIDIA's interface

namespace {

std::byte* map_memory(std::size_t bytes, int protection) {
  void* const memory = ::mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) ::abort();
  ::madvise(memory, bytes, MADV_HUGEPAGE);
  return static_cast<std::byte*>(memory);
}

}  // namespace

CUctx_st*& current_context() {
  thread_local CUctx_st* context = nullptr;
  return context;
}

Process::Process() {
  for (int home = 0; home < kMaxDevices; ++home) moved_.at(static_cast<std::size_t>(home)) = home;
}

Process& Process::self() {
  static auto* const process = new Process;  // never destroyed: its threads live as long as the process
  return *process;
}

CUresult Process::initialize() {
  const std::lock_guard lock(mutex_);
  const std::shared_ptr<Machine> machine = Machine::current();
  if (!machine) return kCudaErrorOperatingSystem;
  bool holds_something = false;
  for (const auto& context : contexts_) holds_something = holds_something || (context && context->retained > 0);
  // Tests change the directory between one machine and the next.
  if (entry_ == nullptr || (machine != machine_ && !holds_something)) {
    ProcessEntry* const entry = machine->enter();
    if (entry == nullptr) return kCudaErrorOperatingSystem;
    machine_ = machine;
    entry_ = entry;
    std::thread([this, machine, entry] { serve(*entry); }).detach();  // holds the machine for as long as it serves
  }
  initialized_ = true;
  return kCudaSuccess;
}

void Process::serve(ProcessEntry& entry) {
  entry.restore_tid = static_cast<int>(::syscall(SYS_gettid));
  while (entry_ == &entry) {
    const std::uint32_t asked = entry.asked;
    if (asked == entry.answered) {
      futex_wait(entry.asked, asked);
      continue;
    }
    entry.result = carry_out(entry.command);
    entry.answered = asked;
    futex_wake(entry.answered);
  }
}

std::atomic<std::uint64_t>& Process::held_on(const CUctx_st& context) {
  return entry_.load()->held_bytes.at(static_cast<std::size_t>(place_of(context.home)));
}

CUresult Process::retain(int home, const Settings& settings, CUctx_st** context) {
  const std::lock_guard lock(mutex_);
  auto& slot = contexts_.at(static_cast<std::size_t>(home));
  if (!slot) slot = std::make_unique<CUctx_st>();
  slot->home = home;
  if (slot->retained == 0) {
    if (!machine_->reserve(*entry_, place_of(home), settings.context_bytes, settings.memory_bytes))
      return kCudaErrorOutOfMemory;
    slot->own_bytes = settings.context_bytes;
    entry_.load()->contexts |= 1U << static_cast<unsigned>(place_of(home));
  }
  ++slot->retained;
  *context = slot.get();
  return kCudaSuccess;
}

CUresult Process::release(int home) {
  const std::lock_guard lock(mutex_);
  const auto& slot = contexts_.at(static_cast<std::size_t>(home));
  if (!slot || slot->retained == 0) return kCudaErrorInvalidContext;
  if (slot->retained == 1) drop(*slot);
  --slot->retained;
  return kCudaSuccess;
}

/// What was made in a context goes with it.
void Process::drop(CUctx_st& context) {
  context.engine.wait_idle();
  context.engine.forget_error();
  for (auto at = allocations_.begin(); at != allocations_.end();) {
    if (at->second.context == &context) release(at->second, at->first);
    at = at->second.context == &context ? allocations_.erase(at) : std::next(at);
  }
  std::erase_if(streams_, [&](CUstream_st* stream) {
    const bool gone = stream->context == &context;
    if (gone) delete stream;
    return gone;
  });
  std::erase_if(events_, [&](CUevent_st* event) {
    const bool gone = event->context == &context;
    if (gone) delete event;
    return gone;
  });
  held_on(context) -= context.own_bytes;
  entry_.load()->contexts &= ~(1U << static_cast<unsigned>(place_of(context.home)));
}

CUresult Process::allocate(CUctx_st& context, std::size_t bytes, const Settings& settings, CUdeviceptr* address) {
  if (bytes == 0) return kCudaErrorInvalidValue;
  const std::lock_guard lock(mutex_);
  if (!machine_->reserve(*entry_, place_of(context.home), bytes, settings.memory_bytes)) return kCudaErrorOutOfMemory;
  std::byte* const memory = back(context, bytes, settings);
  if (memory == nullptr) {
    held_on(context) -= bytes;
    return kCudaErrorOutOfMemory;
  }
  *address = reinterpret_cast<CUdeviceptr>(map_memory(bytes, PROT_NONE));
  allocations_[*address] = {&context, bytes, memory, settings.leftovers, nullptr};
  return kCudaSuccess;
}

std::byte* Process::back(const CUctx_st& context, std::size_t bytes, const Settings& settings) {
  if (!settings.leftovers) return map_memory(bytes, PROT_READ | PROT_WRITE);
  return machine_->place(*entry_, place_of(context.home), bytes, settings.memory_bytes);
}

void Process::release(const Allocation& allocation, CUdeviceptr address) {
  if (allocation.saved != nullptr)
    ::munmap(allocation.saved, allocation.bytes);  // it was given back when it was saved
  if (!allocation.placed)
    ::munmap(allocation.backing, allocation.bytes);
  else if (allocation.backing != nullptr)
    machine_->give_back(*entry_, place_of(allocation.context->home), allocation.backing, allocation.bytes);
  ::munmap(reinterpret_cast<void*>(address), allocation.bytes);  // NOLINT(performance-no-int-to-ptr)
  held_on(*allocation.context) -= allocation.bytes;
}

CUresult Process::free(CUctx_st& context, CUdeviceptr address) {
  context.engine.wait_idle();  // as the driver does
  const std::lock_guard lock(mutex_);
  const auto found = allocations_.find(address);
  if (found == allocations_.end()) return kCudaErrorInvalidValue;
  release(found->second, address);
  allocations_.erase(found);
  return kCudaSuccess;
}

std::byte* Process::backing(const CUctx_st& context, CUdeviceptr address, std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  auto after = allocations_.upper_bound(address);
  if (after == allocations_.begin()) return nullptr;
  const auto& [start, allocation] = *std::prev(after);
  const std::size_t offset = address - start;
  if (allocation.context != &context || offset > allocation.bytes || bytes > allocation.bytes - offset) return nullptr;
  return allocation.backing + offset;
}

CUresult Process::pin(void* memory, std::size_t bytes, bool own, const Settings& settings) {
  if (memory == nullptr || bytes == 0) return kCudaErrorInvalidValue;
  const auto* const start = static_cast<const std::byte*>(memory);
  {
    const std::lock_guard lock(mutex_);
    auto next = pins_.lower_bound(start);
    if (next != pins_.end() && next->first < start + bytes) return kCudaErrorHostMemoryAlreadyRegistered;
    if (next != pins_.begin() && std::prev(next)->first + std::prev(next)->second.bytes > start)
      return kCudaErrorHostMemoryAlreadyRegistered;
    pins_[start] = {bytes, own};
  }
  if (settings.pin_mb_s > 0) std::this_thread::sleep_for(std::chrono::microseconds(bytes / settings.pin_mb_s));
  return kCudaSuccess;
}

CUresult Process::unpin(void* memory, bool own) {
  const std::lock_guard lock(mutex_);
  const auto found = pins_.find(static_cast<const std::byte*>(memory));
  if (found == pins_.end() || found->second.own != own)
    return own ? kCudaErrorInvalidValue : kCudaErrorHostMemoryNotRegistered;
  if (own) ::munmap(memory, found->second.bytes);
  pins_.erase(found);
  return kCudaSuccess;
}

bool Process::pinned(const void* memory, std::size_t bytes) {
  const auto* const start = static_cast<const std::byte*>(memory);
  const std::lock_guard lock(mutex_);
  const auto after = pins_.upper_bound(start);
  if (after == pins_.begin()) return false;
  const auto& [pinned_at, pin] = *std::prev(after);
  return start + bytes <= pinned_at + pin.bytes;
}

CUstream_st* Process::create_stream(CUctx_st& context, bool blocking) {
  const std::lock_guard lock(mutex_);
  return *streams_.insert(new CUstream_st{&context, blocking, 0}).first;
}

CUevent_st* Process::create_event(CUctx_st& context) {
  const std::lock_guard lock(mutex_);
  return *events_.insert(new CUevent_st{&context, 0}).first;
}

bool Process::destroy(CUstream_st* stream) {
  const std::lock_guard lock(mutex_);
  if (streams_.erase(stream) == 0) return false;
  delete stream;  // what it was given to do is done all the same
  return true;
}

bool Process::destroy(CUevent_st* event) {
  const std::lock_guard lock(mutex_);
  if (events_.erase(event) == 0) return false;
  delete event;
  return true;
}

bool Process::knows(CUstream_st* stream) {
  const std::lock_guard lock(mutex_);
  return streams_.contains(stream);
}

bool Process::knows(CUevent_st* event) {
  const std::lock_guard lock(mutex_);
  return events_.contains(event);
}

void Process::wait_blocking_streams(CUctx_st& context) {
  CopyEngine::Ticket last = 0;
  {
    const std::lock_guard lock(mutex_);
    for (const CUstream_st* stream : streams_) {
      if (stream->context == &context && stream->blocking) last = std::max(last, stream->last.load());
    }
  }
  context.engine.wait(last);
}

Process::Counts Process::counts() {
  const std::lock_guard lock(mutex_);
  Counts counts;
  for (const auto& [address, allocation] : allocations_) counts.device_bytes += allocation.bytes;
  for (const auto& [start, pin] : pins_) counts.pinned_bytes += pin.bytes;
  for (const auto& context : contexts_) counts.contexts += context && context->retained > 0 ? 1U : 0U;
  counts.streams = streams_.size();
  counts.events = events_.size();
  return counts;
}

void Process::forget_errors() {
  const std::lock_guard lock(mutex_);
  for (const auto& context : contexts_) {
    if (context) context->engine.forget_error();
  }
}

}  // namespace thaw::emulator
