#pragma once

#include <memory>
#include <vector>

#include "node/device/cuda_driver.h"
#include "node/weights/pipeline/copier.h"

namespace thaw::node::pipeline {

/// Copies to one CUDA device, on a stream of its own in the device's primary context, which is the one that PyTorch and
/// the CUDA runtime use. Holds no memory of the device. One thread, whose current context it changes.
class DeviceCopier : public Copier {
 public:
  /// `slots`: how many the ring has. The driver has been initialised. Errors: not_found (no such device), exhausted,
  /// unavailable.
  static base::Result<std::unique_ptr<DeviceCopier>> open(std::shared_ptr<const CudaDriver> driver, int device,
                                                          unsigned slots);
  ~DeviceCopier() override;
  DeviceCopier(const DeviceCopier&) = delete;
  DeviceCopier& operator=(const DeviceCopier&) = delete;

  base::Status begin(unsigned slot, std::span<const Copy> copies) override;
  base::Result<bool> done(unsigned slot) override;
  base::Status settle() override;

  /// Makes the device's context the thread's.
  base::Status make_current() const;

 private:
  DeviceCopier(std::shared_ptr<const CudaDriver> driver, int device) : driver_(std::move(driver)), device_(device) {}
  base::Status set_up(unsigned slots);
  [[nodiscard]] base::Status check(const char* function, cuda_abi::CUresult code) const;
  [[nodiscard]] base::Status copy(const Copy& copy) const;

  std::shared_ptr<const CudaDriver> driver_;
  int device_;  ///< ordinal
  cuda_abi::CUdevice handle_ = 0;
  cuda_abi::CUcontext context_ = nullptr;
  cuda_abi::CUstream stream_ = nullptr;
  std::vector<cuda_abi::CUevent> events_;  ///< by slot: after its copies

  // Called for each chunk.
  Symbol<cuda_abi::cuCtxSetCurrent_t> set_current_;
  Symbol<cuda_abi::cuMemcpyHtoDAsync_v2_t> copy_;
  Symbol<cuda_abi::cuMemcpy2DAsync_v2_t> copy_rows_;
  Symbol<cuda_abi::cuEventRecord_t> record_;
  Symbol<cuda_abi::cuEventQuery_t> query_;
  Symbol<cuda_abi::cuStreamQuery_t> query_stream_;
};

}  // namespace thaw::node::pipeline
