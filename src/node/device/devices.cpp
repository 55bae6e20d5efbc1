#include "node/device/devices.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "node/device/cuda_survey.h"
#include "node/device/host_memory.h"

namespace thaw::node {
namespace {

constexpr std::uint64_t kInstancesPercent = 80;  // the rest is for the system, thaw itself and the page cache

wire::DeviceInfo cpu_device(const AgentConfig& config, bool gpus) {
  const HostMemory memory = read_host_memory();
  wire::DeviceInfo device;
  device.id = base::DeviceId("cpu0");
  device.kind = spec::DeviceKind::cpu;
  device.name = cpu_name();
  device.total_bytes = memory.usable_bytes();
  device.budget_bytes = host_shares(config, gpus).cpu_bytes;
  return device;
}

}  // namespace

HostShares divide_host_memory(std::uint64_t total_bytes, bool gpus, std::optional<std::uint64_t> set_cpu_bytes,
                              std::optional<std::uint64_t> set_gpu_bytes) {
  const std::uint64_t all = total_bytes / 100 * kInstancesPercent;
  const auto beside = [&](std::uint64_t other) { return all - std::min(all, other); };
  HostShares shares;
  if (!gpus) {
    shares.cpu_bytes = std::min(set_cpu_bytes.value_or(all), total_bytes);
    return shares;
  }
  shares.cpu_bytes = std::min(set_cpu_bytes.value_or(set_gpu_bytes ? beside(*set_gpu_bytes) : all / 2), total_bytes);
  shares.gpu_bytes = std::min(set_gpu_bytes.value_or(beside(shares.cpu_bytes)), total_bytes);
  return shares;
}

HostShares host_shares(const AgentConfig& config, bool gpus) {
  return divide_host_memory(read_host_memory().usable_bytes(), gpus, config.cpu_memory_bytes,
                            config.settings.host_memory_bytes);
}

std::vector<wire::DeviceInfo> find_devices(const AgentConfig& config, const CudaLibraries& libraries) {
  const CudaSurvey cuda = survey_cuda(libraries);
  std::vector<wire::DeviceInfo> devices{cpu_device(config, !cuda.gpus.empty())};
  for (const GpuInfo& gpu : cuda.gpus) {
    wire::DeviceInfo device;
    device.id = base::DeviceId("cuda" + std::to_string(devices.size() - 1));
    device.kind = spec::DeviceKind::cuda;
    device.name = gpu.name;
    device.uuid = gpu.uuid;
    device.total_bytes = gpu.total_bytes;
    device.budget_bytes = gpu.total_bytes - std::min(gpu.total_bytes, config.cuda_reserve_bytes);
    devices.push_back(std::move(device));
  }
  return devices;
}

std::optional<std::uint32_t> cuda_index(const base::DeviceId& device) {
  const std::string& id = device.str();
  if (!id.starts_with("cuda")) return std::nullopt;
  std::uint32_t index = 0;
  const auto [end, error] = std::from_chars(id.data() + 4, id.data() + id.size(), index);
  if (error != std::errc() || end != id.data() + id.size()) return std::nullopt;
  return index;
}

std::vector<std::string> device_nodes(const base::DeviceId& device, const CudaLibraries& libraries) {
  const auto index = cuda_index(device);
  if (!index) return {};
  const auto nvml = Nvml::open(libraries.nvml);
  const auto minor = nvml.ok() ? nvml->minor_of(*index) : base::Result<std::uint32_t>(*index);
  std::vector<std::string> nodes{"/dev/nvidia" + std::to_string(minor.ok() ? *minor : *index), "/dev/nvidiactl", "/dev/nvidia-uvm",
                                 "/dev/nvidia-uvm-tools"};
  nodes.erase(std::remove_if(nodes.begin(), nodes.end(), [](const std::string& path) { return ::access(path.c_str(), F_OK) != 0; }), nodes.end());
  return nodes;
}

std::vector<std::string> device_nodes(const std::vector<base::DeviceId>& devices, const CudaLibraries& libraries) {
  std::vector<std::string> nodes;
  for (const base::DeviceId& device : devices) {
    for (std::string& path : device_nodes(device, libraries)) {
      if (std::find(nodes.begin(), nodes.end(), path) == nodes.end()) nodes.push_back(std::move(path));
    }
  }
  return nodes;
}

bool device_memory_returned(const std::vector<base::DeviceId>& devices, pid_t pid, const CudaLibraries& libraries) {
  return std::all_of(devices.begin(), devices.end(), [&](const base::DeviceId& device) { return device_memory_returned(device, pid, libraries); });
}

bool device_memory_returned(const base::DeviceId& device, pid_t pid, const CudaLibraries& libraries) {
  const auto index = cuda_index(device);
  if (!index) return true;
  const auto nvml = Nvml::open(libraries.nvml);
  if (!nvml.ok()) return true;
  const auto held = nvml->has_compute_process(*index, pid);
  return !held.ok() || !*held;
}

}  // namespace thaw::node
