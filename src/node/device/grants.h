#pragma once

#include <string>
#include <vector>

#include "base/ids.h"
#include "node/cdi/grant.h"
#include "node/device/cuda_survey.h"

namespace thaw::node {

/// NVIDIA's kind in CDI files.
inline constexpr const char* kNvidiaKind = "nvidia.com/gpu";

struct GrantSettings {
  bool cdi_required = false;  ///< node.cdi: required
  std::vector<std::string> cdi_directories = kCdiDirectories;
  CudaLibraries libraries = {};
};

/// What a sandbox is given for these devices; nothing for a CPU. Of GPUs what the operator's CDI files declare for nvidia.com/gpu=N (N as
/// NVML counts), or for the device's UUID. Where no file declares any GPU: the driver's device files, those of them that exist (device_nodes()),
/// or not_found with the remedy when `cdi_required`. Blocking: reads the files anew, so that what `nvidia-ctk cdi generate` wrote is used at the next start.
base::Result<DeviceGrant> grant_devices(const std::vector<base::DeviceId>& devices, const GrantSettings& settings);

}  // namespace thaw::node
