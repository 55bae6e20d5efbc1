#include "node/tiers/gpu_memory.h"

#include "node/device/devices.h"

namespace thaw::node {

std::optional<std::uint64_t> gpu_memory(const TierSubject& subject, const CudaLibraries& libraries) {
  if (subject.sandbox == nullptr) return std::nullopt;
  const auto nvml = Nvml::open(libraries.nvml);
  if (!nvml.ok()) return std::nullopt;
  const std::vector<pid_t> pids =
      subject.sandbox->cgroup() ? subject.sandbox->cgroup()->pids() : std::vector{subject.sandbox->engine_pid()};
  std::uint64_t sum = 0;
  for (const base::DeviceId& device : subject.all_devices()) {
    const auto index = cuda_index(device);
    if (!index) return std::nullopt;
    const auto bytes = nvml->process_bytes(*index, pids);
    if (!bytes.ok()) return std::nullopt;
    sum += *bytes;
  }
  return sum;
}

}  // namespace thaw::node
