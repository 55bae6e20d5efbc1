/// The driver API's part that makes contexts, takes memory of devices and pins memory of the host.
#include <sys/mman.h>

#include <cstring>

#include "process.h"

namespace {

using namespace thaw::node::cuda_abi;  // NOLINT(google-build-using-namespace): the names of NVIDIA's interface
using thaw::emulator::call;
using thaw::emulator::call_in_context;
using thaw::emulator::current_context;
using thaw::emulator::Process;
using thaw::emulator::Settings;

constexpr unsigned int kKnownHostFlags = 0xF;

/// The device by its place in the machine, or -1.
int home_of(const Settings& settings, CUdevice device) {
  const auto visible = settings.visible();
  return device >= 0 && device < static_cast<int>(visible.size()) ? visible[static_cast<std::size_t>(device)] : -1;
}

}  // namespace

THAW_EMULATED CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  return call("cuDevicePrimaryCtxRetain", [&](Process& process, const Settings& settings) {
    const int home = home_of(settings, device);
    return home < 0 ? kCudaErrorInvalidDevice : process.retain(home, settings, context);
  });
}

THAW_EMULATED CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  return call("cuDevicePrimaryCtxRelease_v2", [&](Process& process, const Settings& settings) {
    const int home = home_of(settings, device);
    return home < 0 ? kCudaErrorInvalidDevice : process.release(home);
  });
}

THAW_EMULATED CUresult cuCtxSetCurrent(CUcontext context) {
  return call("cuCtxSetCurrent", [&](Process&, const Settings&) {
    if (context != nullptr && context->retained == 0) return kCudaErrorInvalidContext;
    current_context() = context;
    return kCudaSuccess;
  });
}

THAW_EMULATED CUresult cuCtxGetCurrent(CUcontext* context) {
  return call("cuCtxGetCurrent", [&](Process&, const Settings&) {
    *context = current_context();
    return kCudaSuccess;
  });
}

THAW_EMULATED CUresult cuMemAlloc_v2(CUdeviceptr* address, std::size_t bytes) {
  return call_in_context("cuMemAlloc_v2", [&](Process& process, const Settings& settings, CUctx_st& context) {
    return process.allocate(context, bytes, settings, address);
  });
}

THAW_EMULATED CUresult cuMemFree_v2(CUdeviceptr address) {
  return call_in_context("cuMemFree_v2", [&](Process& process, const Settings&, CUctx_st& context) {
    return process.free(context, address);
  });
}

THAW_EMULATED CUresult cuMemsetD8_v2(CUdeviceptr address, unsigned char value, std::size_t bytes) {
  return call_in_context("cuMemsetD8_v2", [&](Process& process, const Settings&, CUctx_st& context) {
    std::byte* const backing = process.backing(context, address, bytes);
    if (backing == nullptr) return kCudaErrorInvalidValue;
    process.wait_blocking_streams(context);
    std::memset(backing, value, bytes);
    return kCudaSuccess;
  });
}

THAW_EMULATED CUresult cuMemGetInfo_v2(std::size_t* free, std::size_t* total) {
  return call_in_context("cuMemGetInfo_v2", [&](Process& process, const Settings& settings, CUctx_st& context) {
    const std::uint64_t held = process.held_bytes(context.home);
    *total = settings.memory_bytes;
    *free = held < settings.memory_bytes ? settings.memory_bytes - held : 0;
    return kCudaSuccess;
  });
}

THAW_EMULATED CUresult cuMemHostRegister_v2(void* memory, std::size_t bytes, unsigned int flags) {
  return call_in_context("cuMemHostRegister_v2", [&](Process& process, const Settings& settings, CUctx_st&) {
    return (flags & ~kKnownHostFlags) != 0 ? kCudaErrorInvalidValue : process.pin(memory, bytes, false, settings);
  });
}

THAW_EMULATED CUresult cuMemHostUnregister(void* memory) {
  return call_in_context("cuMemHostUnregister",
                         [&](Process& process, const Settings&, CUctx_st&) { return process.unpin(memory, false); });
}

THAW_EMULATED CUresult cuMemHostAlloc(void** memory, std::size_t bytes, unsigned int flags) {
  return call_in_context("cuMemHostAlloc", [&](Process& process, const Settings& settings, CUctx_st&) {
    if ((flags & ~kKnownHostFlags) != 0 || bytes == 0) return kCudaErrorInvalidValue;
    void* const mapped = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) return kCudaErrorOutOfMemory;
    *memory = mapped;
    return process.pin(mapped, bytes, true, settings);
  });
}

THAW_EMULATED CUresult cuMemFreeHost(void* memory) {
  return call_in_context("cuMemFreeHost",
                         [&](Process& process, const Settings&, CUctx_st&) { return process.unpin(memory, true); });
}
