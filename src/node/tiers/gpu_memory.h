#pragma once

#include <cstdint>
#include <optional>

#include "node/device/cuda_survey.h"
#include "node/tiers/driver.h"

namespace thaw::node {

/// Device memory that the sandbox's processes hold on the subject's GPU, by NVML. Nothing when NVML does not say, or
/// the device is no GPU. Blocking: some ms on a host with GPUs.
std::optional<std::uint64_t> gpu_memory(const TierSubject& subject, const CudaLibraries& libraries = {});

}  // namespace thaw::node
