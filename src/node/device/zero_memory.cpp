#include "node/device/zero_memory.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "node/device/cuda_driver.h"

namespace thaw::node {
namespace {

using namespace cuda_abi;  // NOLINT(google-build-using-namespace): the names of NVIDIA's interface

constexpr std::uint64_t kPiece_bytes = 1ULL << 30;     // taken at once; halved where there is no room for it
constexpr std::uint64_t kSmallest_bytes = 2ULL << 20;  // what the driver gives out: a large page

/// The driver counts devices in an order of its own unless it is told otherwise; NVML's, and ours, is the bus's.
base::Result<CUdevice> device_of(const CudaDriver& driver, std::uint32_t index, const CudaLibraries& libraries) {
  const auto nvml = Nvml::open(libraries.nvml);
  const auto wanted = nvml.ok() ? nvml->uuid_of(index) : base::Result<std::string>(nvml.error());
  CUdevice device = 0;
  if (!wanted.ok()) {  // then the devices were found by the driver
    THAW_RETURN_IF_ERROR((driver.call<cuDeviceGet_t>("cuDeviceGet", &device, static_cast<int>(index))));
    return device;
  }
  THAW_ASSIGN_OR_RETURN(const std::vector<GpuInfo> by_driver, devices_by_driver(libraries.driver));
  for (std::size_t ordinal = 0; ordinal < by_driver.size(); ++ordinal) {
    if (by_driver[ordinal].uuid != *wanted) continue;
    THAW_RETURN_IF_ERROR((driver.call<cuDeviceGet_t>("cuDeviceGet", &device, static_cast<int>(ordinal))));
    return device;
  }
  return base::Error{base::ErrorKind::not_found, fmt::format("the driver has no device {}", *wanted)};
}

/// The primary context of a device, current in this thread while the object lives. What was taken in it goes with it.
class Context {
 public:
  static base::Result<Context> retain(const CudaDriver& driver, CUdevice device) {
    CUcontext context = nullptr;
    THAW_RETURN_IF_ERROR((driver.call<cuDevicePrimaryCtxRetain_t>("cuDevicePrimaryCtxRetain", &context, device)));
    Context retained(driver, device);
    THAW_RETURN_IF_ERROR((driver.call<cuCtxSetCurrent_t>("cuCtxSetCurrent", context)));
    return retained;
  }
  Context(Context&& other) noexcept : driver_(std::exchange(other.driver_, nullptr)), device_(other.device_) {}
  Context& operator=(Context&&) = delete;
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
  ~Context() {
    if (driver_ == nullptr) return;
    (void)driver_->call<cuCtxSetCurrent_t>("cuCtxSetCurrent", CUcontext{});
    (void)driver_->call<cuDevicePrimaryCtxRelease_v2_t>("cuDevicePrimaryCtxRelease_v2", device_);
  }

 private:
  Context(const CudaDriver& driver, CUdevice device) : driver_(&driver), device_(device) {}
  const CudaDriver* driver_;
  CUdevice device_;
};

/// Memory that is given back at the end; not before, so that the next piece is another one.
class Pieces {
 public:
  explicit Pieces(const CudaDriver& driver) : driver_(driver) {}
  ~Pieces() {
    for (const CUdeviceptr piece : pieces_) (void)driver_.call<cuMemFree_v2_t>("cuMemFree_v2", piece);
  }
  Pieces(const Pieces&) = delete;
  Pieces& operator=(const Pieces&) = delete;

  /// exhausted: there is no such piece.
  base::Status zero_another(std::uint64_t bytes) {
    CUdeviceptr piece = 0;
    THAW_RETURN_IF_ERROR((driver_.call<cuMemAlloc_v2_t>("cuMemAlloc_v2", &piece, static_cast<std::size_t>(bytes))));
    pieces_.push_back(piece);
    return driver_.call<cuMemsetD8_v2_t>("cuMemsetD8_v2", piece, static_cast<unsigned char>(0),
                                         static_cast<std::size_t>(bytes));
  }

 private:
  const CudaDriver& driver_;
  std::vector<CUdeviceptr> pieces_;
};

}  // namespace

base::Result<std::uint64_t> zero_free_memory(std::uint32_t index, std::uint64_t at_most_bytes,
                                             const CudaLibraries& libraries) {
  THAW_ASSIGN_OR_RETURN(const auto driver, CudaDriver::open(libraries.driver));
  THAW_RETURN_IF_ERROR((driver.call<cuInit_t>("cuInit", 0U)));
  THAW_ASSIGN_OR_RETURN(const CUdevice device, device_of(driver, index, libraries));
  THAW_ASSIGN_OR_RETURN(const Context context, Context::retain(driver, device));
  Pieces pieces(driver);
  std::uint64_t zeroed_bytes = 0;
  for (std::uint64_t piece_bytes = kPiece_bytes; piece_bytes >= kSmallest_bytes && zeroed_bytes < at_most_bytes;) {
    const std::uint64_t wanted_bytes = std::min(piece_bytes, at_most_bytes - zeroed_bytes);
    const base::Status zeroed = pieces.zero_another(wanted_bytes);
    if (zeroed.ok())
      zeroed_bytes += wanted_bytes;
    else if (zeroed.error().kind == base::ErrorKind::exhausted)
      piece_bytes /= 2;
    else
      return zeroed.error();
  }
  // The zeros are written behind the calls' backs.
  THAW_RETURN_IF_ERROR((driver.call<cuStreamSynchronize_t>("cuStreamSynchronize", CUstream{})));
  return zeroed_bytes;
}

}  // namespace thaw::node
