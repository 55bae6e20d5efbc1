#include "node/device/cuda_driver.h"

#include <fmt/format.h>

namespace thaw::node {
namespace {

using namespace cuda_abi;  // NOLINT(google-build-using-namespace): the names of NVIDIA's interface

base::ErrorKind kind_of(CUresult code) {
  if (code == kCudaErrorOutOfMemory) return base::ErrorKind::exhausted;
  if (code == kCudaErrorNoDevice || code == kCudaErrorInvalidDevice) return base::ErrorKind::not_found;
  return base::ErrorKind::unavailable;
}

}  // namespace

base::Error CudaDriver::failure(const char* name, CUresult code) const {
  const auto text = library_.find<cuGetErrorString_t>("cuGetErrorString");
  const char* description = nullptr;
  const bool described = text.ok() && (*text)(code, &description) == kCudaSuccess && description != nullptr;
  return {kind_of(code), fmt::format("{} failed: {}", name, described ? description : fmt::format("code {}", code))};
}

}  // namespace thaw::node
