/// The driver API's part that copies: streams, their events, and copies that wait.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>

#include "control.h"
#include "process.h"

namespace {

using namespace thaw::node::cuda_abi;  // NOLINT(google-build-using-namespace): the names of NVIDIA's interface
using thaw::emulator::call;
using thaw::emulator::call_in_context;
using thaw::emulator::CopyEngine;
using thaw::emulator::Process;
using thaw::emulator::Settings;

std::atomic<std::uint64_t> copies = 0;
std::atomic<std::uint64_t> copied_bytes = 0;
std::atomic<std::uint64_t> pageable_copies = 0;

/// Hands a copy to the stream's device. The bytes are read later when they are pinned, and before the call returns when
/// they are not.
CUresult submit(Process& process, const Settings& settings, CUctx_st& context, CUstream stream, CopyEngine::Copy copy) {
  const bool pinned = process.pinned(copy.from, (copy.height - 1) * copy.from_pitch_bytes + copy.width_bytes);
  copy.mb_s = pinned ? settings.bus_mb_s : settings.pageable_mb_s;
  copy.error = settings.failure("copy");
  const CopyEngine::Ticket ticket = context.engine.submit(copy);
  if (stream != nullptr) stream->last = ticket;
  ++copies;
  copied_bytes += copy.width_bytes * copy.height;
  if (pinned) return kCudaSuccess;
  ++pageable_copies;
  context.engine.wait(ticket);
  return kCudaSuccess;
}

/// Calls with a stream of that context, or the default one.
template <typename Body>
CUresult call_on_stream(const char* function, CUstream stream, Body body) {
  return call_in_context(function, [&](Process& process, const Settings& settings, CUctx_st& context) -> CUresult {
    if (stream != nullptr && (!process.knows(stream) || stream->context != &context)) return kCudaErrorInvalidHandle;
    return body(process, settings, context);
  });
}

/// What happened meanwhile is told by whoever waits.
CUresult outcome(const CUctx_st& context) {
  return context.engine.error();
}

}  // namespace

THAW_EMULATED CUresult cuStreamCreate(CUstream* stream, unsigned int flags) {
  return call_in_context("cuStreamCreate", [&](Process& process, const Settings&, CUctx_st& context) {
    if ((flags & ~kCudaStreamNonBlocking) != 0) return kCudaErrorInvalidValue;
    *stream = process.create_stream(context, flags == 0);
    return kCudaSuccess;
  });
}

THAW_EMULATED CUresult cuStreamDestroy_v2(CUstream stream) {
  return call("cuStreamDestroy_v2", [&](Process& process, const Settings&) {
    return process.destroy(stream) ? kCudaSuccess : kCudaErrorInvalidHandle;
  });
}

THAW_EMULATED CUresult cuStreamQuery(CUstream stream) {
  return call_on_stream("cuStreamQuery", stream, [&](Process&, const Settings&, CUctx_st& context) {
    if (stream != nullptr && !context.engine.done(stream->last)) return kCudaErrorNotReady;
    return outcome(context);
  });
}

THAW_EMULATED CUresult cuStreamSynchronize(CUstream stream) {
  return call_on_stream("cuStreamSynchronize", stream, [&](Process& process, const Settings&, CUctx_st& context) {
    if (stream == nullptr)
      process.wait_blocking_streams(context);
    else
      context.engine.wait(stream->last);
    return outcome(context);
  });
}

THAW_EMULATED CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, std::size_t bytes, CUstream stream) {
  return call_on_stream(
      "cuMemcpyHtoDAsync_v2", stream, [&](Process& process, const Settings& settings, CUctx_st& context) {
        if (bytes == 0) return kCudaSuccess;
        std::byte* const backing = process.backing(context, to, bytes);
        if (backing == nullptr || from == nullptr) return kCudaErrorInvalidValue;
        return submit(process, settings, context, stream, {backing, static_cast<const std::byte*>(from), bytes});
      });
}

THAW_EMULATED CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D* copy, CUstream stream) {
  return call_on_stream(
      "cuMemcpy2DAsync_v2", stream, [&](Process& process, const Settings& settings, CUctx_st& context) {
        // Host to device is what is emulated.
        if (copy->srcMemoryType != kCudaMemoryHost || copy->dstMemoryType != kCudaMemoryDevice)
          return kCudaErrorNotSupported;
        if (copy->srcPitch < copy->srcXInBytes + copy->WidthInBytes ||
            copy->dstPitch < copy->dstXInBytes + copy->WidthInBytes)
          return kCudaErrorInvalidValue;
        constexpr std::size_t kMaxPitchBytes = 0x7FFFFFFF;  // CU_DEVICE_ATTRIBUTE_MAX_PITCH of all devices so far
        if (copy->srcPitch > kMaxPitchBytes || copy->dstPitch > kMaxPitchBytes) return kCudaErrorInvalidValue;
        if (copy->WidthInBytes == 0 || copy->Height == 0) return kCudaSuccess;
        const auto* const from =
            static_cast<const std::byte*>(copy->srcHost) + copy->srcY * copy->srcPitch + copy->srcXInBytes;
        const CUdeviceptr to = copy->dstDevice + copy->dstY * copy->dstPitch + copy->dstXInBytes;
        std::byte* const backing =
            process.backing(context, to, (copy->Height - 1) * copy->dstPitch + copy->WidthInBytes);
        if (backing == nullptr || copy->srcHost == nullptr) return kCudaErrorInvalidValue;
        return submit(process, settings, context, stream,
                      {backing, from, copy->WidthInBytes, copy->Height, copy->dstPitch, copy->srcPitch});
      });
}

THAW_EMULATED CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, std::size_t bytes) {
  return call_in_context("cuMemcpyHtoD_v2", [&](Process& process, const Settings& settings, CUctx_st& context) {
    if (bytes == 0) return kCudaSuccess;
    std::byte* const backing = process.backing(context, to, bytes);
    if (backing == nullptr || from == nullptr) return kCudaErrorInvalidValue;
    process.wait_blocking_streams(context);
    submit(process, settings, context, nullptr, {backing, static_cast<const std::byte*>(from), bytes});
    context.engine.wait_idle();
    return outcome(context);
  });
}

/// A device copies both ways at once: this one is carried out here. Like the driver it does not wait for streams that
/// are not blocking, and then finds whatever is there.
THAW_EMULATED CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, std::size_t bytes) {
  return call_in_context("cuMemcpyDtoH_v2", [&](Process& process, const Settings& settings, CUctx_st& context) {
    if (bytes == 0) return kCudaSuccess;
    const std::byte* const backing = process.backing(context, from, bytes);
    if (backing == nullptr || to == nullptr) return kCudaErrorInvalidValue;
    process.wait_blocking_streams(context);
    std::memcpy(to, backing, bytes);
    const std::uint64_t mb_s = process.pinned(to, bytes) ? settings.bus_mb_s : settings.pageable_mb_s;
    if (mb_s > 0) std::this_thread::sleep_for(std::chrono::microseconds(bytes / mb_s));
    return outcome(context);
  });
}

THAW_EMULATED CUresult cuEventCreate(CUevent* event, unsigned int flags) {
  return call_in_context("cuEventCreate", [&](Process& process, const Settings&, CUctx_st& context) {
    if ((flags & ~(kCudaEventBlockingSync | kCudaEventDisableTiming)) != 0) return kCudaErrorInvalidValue;
    *event = process.create_event(context);
    return kCudaSuccess;
  });
}

THAW_EMULATED CUresult cuEventDestroy_v2(CUevent event) {
  return call("cuEventDestroy_v2", [&](Process& process, const Settings&) {
    return process.destroy(event) ? kCudaSuccess : kCudaErrorInvalidHandle;
  });
}

THAW_EMULATED CUresult cuEventRecord(CUevent event, CUstream stream) {
  return call_on_stream("cuEventRecord", stream, [&](Process& process, const Settings&, CUctx_st& context) {
    if (stream == nullptr) return kCudaErrorNotSupported;  // of the default stream: not emulated
    if (!process.knows(event) || event->context != &context) return kCudaErrorInvalidHandle;
    event->recorded = stream->last.load();
    return kCudaSuccess;
  });
}

/// One that was never recorded is done.
THAW_EMULATED CUresult cuEventQuery(CUevent event) {
  return call("cuEventQuery", [&](Process& process, const Settings&) -> CUresult {
    if (!process.knows(event)) return kCudaErrorInvalidHandle;
    if (!event->context->engine.done(event->recorded)) return kCudaErrorNotReady;
    return outcome(*event->context);
  });
}

THAW_EMULATED CUresult cuEventSynchronize(CUevent event) {
  return call("cuEventSynchronize", [&](Process& process, const Settings&) -> CUresult {
    if (!process.knows(event)) return kCudaErrorInvalidHandle;
    event->context->engine.wait(event->recorded);
    return outcome(*event->context);
  });
}

THAW_EMULATED void thawEmulatorCounts(ThawEmulatorCounts* into) {
  const Process::Counts counts = Process::self().counts();
  *into = {copies,          copied_bytes,   pageable_copies, counts.device_bytes, counts.pinned_bytes,
           counts.contexts, counts.streams, counts.events};
}

THAW_EMULATED void thawEmulatorReset() {
  copies = copied_bytes = pageable_copies = 0;
  thaw::emulator::reset_call_counts();
  Process::self().forget_errors();
}
