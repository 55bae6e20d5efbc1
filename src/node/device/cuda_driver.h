#pragma once

#include <string>
#include <utility>

#include "base/result.h"
#include "node/device/cuda_abi.h"
#include "node/device/shared_library.h"

namespace thaw::node {

/// NVIDIA's driver library, loaded at run time: calls whose failures come in the driver's own words. Making it calls
/// nothing. May be used by several threads at once, as the driver may.
class CudaDriver {
 public:
  /// `library`: as the dynamic linker takes it. Errors: not_found.
  static base::Result<CudaDriver> open(const std::string& library) {
    THAW_ASSIGN_OR_RETURN(auto loaded, SharedLibrary::open(library));
    return CudaDriver(std::move(loaded));
  }

  /// For functions that are called often.
  template <typename Function>
  base::Result<Symbol<Function>> find(const char* name) const {
    return library_.find<Function>(name);
  }

  /// Errors: exhausted (no memory), not_found (no such device, or function), unavailable (anything else).
  template <typename Function, typename... Args>
  base::Status call(const char* name, Args... args) const {
    THAW_ASSIGN_OR_RETURN(const auto function, library_.find<Function>(name));
    return check(name, function(args...));
  }

  /// What a function's code means.
  base::Status check(const char* name, cuda_abi::CUresult code) const {
    return code == cuda_abi::kCudaSuccess ? base::Status() : failure(name, code);
  }

 private:
  explicit CudaDriver(SharedLibrary library) : library_(std::move(library)) {}
  [[nodiscard]] base::Error failure(const char* name, cuda_abi::CUresult code) const;

  SharedLibrary library_;
};

}  // namespace thaw::node
