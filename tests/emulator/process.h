#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>

#include "copy_engine.h"
#include "gate.h"
#include "machine.h"
#include "node/device/cuda_abi.h"
#include "settings.h"

namespace thaw::node::cuda_abi {

/// The primary context of one device in this process. Never destroyed, so that a stale pointer is refused and not
/// followed.
struct CUctx_st {
  int home = 0;                            ///< the device, by its place in the machine when the context was made
  std::atomic<unsigned int> retained = 0;  ///< by how many; none: whoever uses it is refused
  std::uint64_t own_bytes = 0;             ///< what it takes of the device
  thaw::emulator::CopyEngine engine;
};
struct CUstream_st {
  CUctx_st* context = nullptr;
  bool blocking = true;                                      ///< waits for the default stream, and that for it
  std::atomic<thaw::emulator::CopyEngine::Ticket> last = 0;  ///< its latest copy
};
struct CUevent_st {
  CUctx_st* context = nullptr;
  std::atomic<thaw::emulator::CopyEngine::Ticket> recorded = 0;
};

}  // namespace thaw::node::cuda_abi

namespace thaw::emulator {

using node::cuda_abi::CUctx_st;
using node::cuda_abi::CUevent_st;
using node::cuda_abi::CUstream_st;

/// What this process has of the machine, and its driver's state.
class Process {
 public:
  static Process& self();

  Gate& gate() { return gate_; }
  [[nodiscard]] bool initialized() const { return initialized_; }

  /// Where a device that contexts were made on is now: a restore may have moved it.
  [[nodiscard]] int place_of(int home) const { return moved_.at(static_cast<std::size_t>(home)); }

  // What follows returns the driver's codes.
  node::cuda_abi::CUresult initialize();  ///< cuInit: enters the machine, and starts the restore thread
  node::cuda_abi::CUresult retain(int home, const Settings& settings, CUctx_st** context);
  node::cuda_abi::CUresult release(int home);
  node::cuda_abi::CUresult allocate(CUctx_st& context, std::size_t bytes, const Settings& settings,
                                    node::cuda_abi::CUdeviceptr* address);
  node::cuda_abi::CUresult free(CUctx_st& context, node::cuda_abi::CUdeviceptr address);
  node::cuda_abi::CUresult pin(void* memory, std::size_t bytes, bool own, const Settings& settings);
  node::cuda_abi::CUresult unpin(void* memory, bool own);
  CUstream_st* create_stream(CUctx_st& context, bool blocking);
  CUevent_st* create_event(CUctx_st& context);
  bool destroy(CUstream_st* stream);
  bool destroy(CUevent_st* event);
  bool knows(CUstream_st* stream);
  bool knows(CUevent_st* event);

  /// The bytes behind device addresses of that context; null when they are not all of one allocation.
  std::byte* backing(const CUctx_st& context, node::cuda_abi::CUdeviceptr address, std::size_t bytes);
  [[nodiscard]] bool pinned(const void* memory, std::size_t bytes);
  /// Until nothing is left that the default stream waits for.
  void wait_blocking_streams(CUctx_st& context);

  // Steps of a checkpoint, carried out by the restore thread, or by a thread of this process that asks for them.
  node::cuda_abi::CUresult carry_out(const Command& command);
  [[nodiscard]] ProcessEntry* entry() const { return entry_; }
  [[nodiscard]] std::uint64_t held_bytes(int home) { return machine_->held_bytes(place_of(home)); }

  /// How many there are of each, for tests.
  struct Counts {
    std::uint64_t device_bytes = 0, pinned_bytes = 0, contexts = 0, streams = 0, events = 0;
  };
  Counts counts();
  void forget_errors();

 private:
  struct Allocation {
    CUctx_st* context = nullptr;
    std::size_t bytes = 0;
    std::byte* backing = nullptr;  ///< the address itself cannot be read, as a device's cannot
    bool placed = false;           ///< on a device that keeps what was there (Settings::leftovers)
    std::byte* saved = nullptr;    ///< the contents while the process is checkpointed
  };
  struct Pin {
    std::size_t bytes = 0;
    bool own = false;
  };

  Process();
  void serve(ProcessEntry& entry);
  std::atomic<std::uint64_t>& held_on(const CUctx_st& context);
  void release(const Allocation& allocation, node::cuda_abi::CUdeviceptr address);
  std::byte* back(const CUctx_st& context, std::size_t bytes, const Settings& settings);
  void drop(CUctx_st& context);
  node::cuda_abi::CUresult lock_calls(const Command& command);
  node::cuda_abi::CUresult save(const Command& command);
  node::cuda_abi::CUresult bring_back(const Command& command);
  using Places = std::array<int, kMaxDevices>;  ///< by home
  node::cuda_abi::CUresult choose_places(const Command& command, Places* places) const;
  node::cuda_abi::CUresult reserve_places(const Places& places);
  node::cuda_abi::CUresult fail(const Command& command);

  Gate gate_;
  std::atomic<bool> initialized_ = false;
  std::shared_ptr<Machine> machine_;
  std::atomic<ProcessEntry*> entry_ = nullptr;
  std::array<std::atomic<int>, kMaxDevices> moved_{};  ///< by home
  std::mutex steps_mutex_;
  bool restore_spoilt_ = false;

  std::mutex mutex_;                                             ///< guards what follows
  std::array<std::unique_ptr<CUctx_st>, kMaxDevices> contexts_;  ///< by home
  std::map<node::cuda_abi::CUdeviceptr, Allocation> allocations_;
  std::map<const std::byte*, Pin> pins_;
  std::set<CUstream_st*> streams_;
  std::set<CUevent_st*> events_;
};

/// The calling thread's context.
CUctx_st*& current_context();

/// One call of the API: refused as the settings say, held back while the process is locked, refused before cuInit.
template <typename Body>
node::cuda_abi::CUresult call(const char* function, Body body) {
  const Settings settings = read_settings();
  if (const int code = settings.failure(function); code != 0) return code;
  Process& process = Process::self();
  if (!process.initialized()) return node::cuda_abi::kCudaErrorNotInitialized;
  const Gate::Pass pass(process.gate());
  return body(process, settings);
}

/// The same for calls that need a context: they fail for ever once something has failed in it.
template <typename Body>
node::cuda_abi::CUresult call_in_context(const char* function, Body body) {
  return call(function, [&](Process& process, const Settings& settings) -> node::cuda_abi::CUresult {
    CUctx_st* const context = current_context();
    if (context == nullptr || context->retained == 0) return node::cuda_abi::kCudaErrorInvalidContext;
    if (const int error = context->engine.error(); error != 0) return error;
    return body(process, settings, *context);
  });
}

}  // namespace thaw::emulator
