#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "node/agent.h"
#include "node/device/cuda_survey.h"
#include "wire/messages.h"

/// The problem: what can models be put on here, and how much of it may they hold together? Nothing here ever holds device
/// memory: no CUDA context is created.
namespace thaw::node {

/// How the host's memory is divided among those that may hold it, in bytes.
struct HostShares {
  std::uint64_t cpu_bytes = 0;  ///< of instances on cpu0
  std::uint64_t gpu_bytes = 0;  ///< of instances on GPUs, beside their devices' memory: running, and in standby
};
/// Together at most 80% of `total_bytes`, unless more was set by hand (each at most `total_bytes`). Without GPUs all of
/// it is the CPU's; with them each has half, or what the other, set by hand, leaves. Pure.
HostShares divide_host_memory(std::uint64_t total_bytes, bool gpus, std::optional<std::uint64_t> set_cpu_bytes,
                              std::optional<std::uint64_t> set_gpu_bytes);
/// The same for this host, as it was configured.
HostShares host_shares(const AgentConfig& config, bool gpus);

/// Every device of this machine, cpu0 first, then cuda0, cuda1 … in the driver's order. A machine without an NVIDIA driver, or with one that
/// does not answer, has only cpu0. Blocking: cuInit takes up to seconds on a host with many GPUs. Any thread.
/// cpu0's budget: HostShares::cpu_bytes of the memory that thaw may use (the host's, or its own cgroup's limit).
/// A CUDA device's budget: its memory minus AgentConfig::cuda_reserve_bytes.
std::vector<wire::DeviceInfo> find_devices(const AgentConfig& config, const CudaLibraries& libraries = {});

/// N of "cudaN"; nothing for other devices.
std::optional<std::uint32_t> cuda_index(const base::DeviceId& device);

/// Device files that a sandbox needs for this device, those of them that exist. Empty for a CPU.
std::vector<std::string> device_nodes(const base::DeviceId& device, const CudaLibraries& libraries = {});

/// The same for all devices of an instance, each file once.
std::vector<std::string> device_nodes(const std::vector<base::DeviceId>& devices, const CudaLibraries& libraries = {});

/// True when NVML no longer lists `pid` among the device's compute processes (a CPU: always; NVML absent: true, nothing can be known).
/// A process's device memory is given back after its exit, not by it. Blocking: some ms a call on a host with GPUs; poll every 20 ms or so.
bool device_memory_returned(const base::DeviceId& device, pid_t pid, const CudaLibraries& libraries = {});
/// On all of them.
bool device_memory_returned(const std::vector<base::DeviceId>& devices, pid_t pid, const CudaLibraries& libraries = {});

}  // namespace thaw::node
