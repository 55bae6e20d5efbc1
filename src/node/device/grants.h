#pragma once

#include <map>
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
  bool for_image = false;  ///< the sandbox's root is a container image's
};

/// What a sandbox is given for these devices; nothing for a CPU. Of GPUs what the operator's CDI files declare for nvidia.com/gpu=N (N as
/// NVML counts), or for the device's UUID. Where no file declares any GPU: the driver's device files, those of them that exist (device_nodes()),
/// or not_found with the remedy when `cdi_required`, or `for_image`: there the driver's libraries must be granted, too, and only its vendor's tool knows
/// them all. Blocking: reads the files anew, so that what `nvidia-ctk cdi generate` wrote is used at the next start.
base::Result<DeviceGrant> grant_devices(const std::vector<base::DeviceId>& devices, const GrantSettings& settings);

/// What an engine in a sandbox with this grant is told by its environment `env`: the grant's variables; where the driver's libraries are (after the model's own
/// LD_LIBRARY_PATH, which is in `own`, and before the image's); and in CUDA_VISIBLE_DEVICES the devices by their numbers inside, since CUDA counts only those
/// whose device files it can open, from 0, in the order of their buses.
void set_device_environment(const std::vector<base::DeviceId>& devices, const DeviceGrant& grant, const std::map<std::string, std::string>& own,
                            std::map<std::string, std::string>& env);

}  // namespace thaw::node
