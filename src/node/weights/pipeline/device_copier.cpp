#include "node/weights/pipeline/device_copier.h"

#include <chrono>
#include <thread>

#include <fmt/format.h>

#include "node/sandbox/clock.h"

namespace thaw::node::pipeline {
namespace {

using namespace cuda_abi;  // NOLINT(google-build-using-namespace): the names of NVIDIA's interface

constexpr std::uint64_t kMaxPitchBytes = 0x7FFFFFFF;  // CU_DEVICE_ATTRIBUTE_MAX_PITCH of all devices so far
constexpr auto kSettleLimit = base::Seconds(30);
constexpr auto kSettleStep = std::chrono::microseconds(100);

}  // namespace

base::Result<std::unique_ptr<DeviceCopier>> DeviceCopier::open(std::shared_ptr<const CudaDriver> driver, int device,
                                                               unsigned slots) {
  std::unique_ptr<DeviceCopier> copier(new DeviceCopier(std::move(driver), device));
  const base::Status status = copier->set_up(slots);
  if (!status.ok()) return status.error().within(fmt::format("cuda:{}", device));
  return copier;
}

base::Status DeviceCopier::set_up(unsigned slots) {
  THAW_ASSIGN_OR_RETURN(set_current_, driver_->find<cuCtxSetCurrent_t>("cuCtxSetCurrent"));
  THAW_ASSIGN_OR_RETURN(copy_, driver_->find<cuMemcpyHtoDAsync_v2_t>("cuMemcpyHtoDAsync_v2"));
  THAW_ASSIGN_OR_RETURN(copy_rows_, driver_->find<cuMemcpy2DAsync_v2_t>("cuMemcpy2DAsync_v2"));
  THAW_ASSIGN_OR_RETURN(record_, driver_->find<cuEventRecord_t>("cuEventRecord"));
  THAW_ASSIGN_OR_RETURN(query_, driver_->find<cuEventQuery_t>("cuEventQuery"));
  THAW_ASSIGN_OR_RETURN(query_stream_, driver_->find<cuStreamQuery_t>("cuStreamQuery"));
  THAW_RETURN_IF_ERROR((driver_->call<cuDeviceGet_t>("cuDeviceGet", &handle_, device_)));
  THAW_RETURN_IF_ERROR((driver_->call<cuDevicePrimaryCtxRetain_t>("cuDevicePrimaryCtxRetain", &context_, handle_)));
  THAW_RETURN_IF_ERROR((driver_->call<cuCtxSetCurrent_t>("cuCtxSetCurrent", context_)));
  // Non-blocking: an engine that works on the default stream meanwhile neither waits for the copies nor they for it.
  THAW_RETURN_IF_ERROR((driver_->call<cuStreamCreate_t>("cuStreamCreate", &stream_, kCudaStreamNonBlocking)));
  for (unsigned slot = 0; slot < slots; ++slot) {
    CUevent event = nullptr;
    THAW_RETURN_IF_ERROR((driver_->call<cuEventCreate_t>("cuEventCreate", &event, kCudaEventDisableTiming)));
    events_.push_back(event);
  }
  return {};
}

DeviceCopier::~DeviceCopier() {
  if (context_ == nullptr) return;
  // Whatever fails here: the process goes on without it.
  (void)make_current();
  for (const CUevent event : events_) (void)driver_->call<cuEventDestroy_v2_t>("cuEventDestroy_v2", event);
  if (stream_ != nullptr) (void)driver_->call<cuStreamDestroy_v2_t>("cuStreamDestroy_v2", stream_);
  (void)set_current_(CUcontext{});
  (void)driver_->call<cuDevicePrimaryCtxRelease_v2_t>("cuDevicePrimaryCtxRelease_v2", handle_);
}

base::Status DeviceCopier::check(const char* function, CUresult code) const {
  const base::Status status = driver_->check(function, code);
  return status.ok() ? status : base::Status(status.error().within(fmt::format("cuda:{}", device_)));
}

base::Status DeviceCopier::make_current() const {
  return check("cuCtxSetCurrent", set_current_(context_));
}

base::Status DeviceCopier::copy(const Copy& copy) const {
  if (copy.rows == 1) return check("cuMemcpyHtoDAsync", copy_(copy.to, copy.from, copy.row_bytes, stream_));
  if (copy.from_stride > kMaxPitchBytes || copy.to_stride > kMaxPitchBytes) {
    for (std::uint64_t row = 0; row < copy.rows; ++row)
      THAW_RETURN_IF_ERROR(
          check("cuMemcpyHtoDAsync",
                copy_(copy.to + row * copy.to_stride, static_cast<const void*>(copy.from + row * copy.from_stride),
                      copy.row_bytes, stream_)));
    return {};
  }
  CUDA_MEMCPY2D rows{};
  rows.srcMemoryType = kCudaMemoryHost;
  rows.srcHost = copy.from;
  rows.srcPitch = copy.from_stride;
  rows.dstMemoryType = kCudaMemoryDevice;
  rows.dstDevice = copy.to;
  rows.dstPitch = copy.to_stride;
  rows.WidthInBytes = copy.row_bytes;
  rows.Height = copy.rows;
  return check("cuMemcpy2DAsync", copy_rows_(&rows, stream_));
}

base::Status DeviceCopier::begin(unsigned slot, std::span<const Copy> copies) {
  THAW_RETURN_IF_ERROR(make_current());
  for (const Copy& one : copies) THAW_RETURN_IF_ERROR(copy(one));
  return check("cuEventRecord", record_(events_[slot], stream_));
}

base::Result<bool> DeviceCopier::done(unsigned slot) {
  const CUresult code = query_(events_[slot]);
  if (code == kCudaErrorNotReady) return false;
  THAW_RETURN_IF_ERROR(check("a copy", code));
  return true;
}

base::Status DeviceCopier::settle() {
  // Not cuStreamSynchronize, which would wait for ever for a device that hangs.
  const base::TimePoint give_up = now() + kSettleLimit;
  (void)make_current();
  for (;;) {
    const CUresult code = query_stream_(stream_);
    // After any other failure of the context nothing runs in it any more.
    if (code != kCudaErrorNotReady) return {};
    if (now() > give_up)
      return base::Error{base::ErrorKind::unavailable,
                         fmt::format("cuda:{} has not finished its copies for {} s", device_, kSettleLimit.count())};
    std::this_thread::sleep_for(kSettleStep);
  }
}

}  // namespace thaw::node::pipeline
