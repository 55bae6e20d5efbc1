#include "node/tiers/gpu_memory.h"

#include "node/device/devices.h"

namespace thaw::node {

std::optional<std::uint64_t> gpu_memory(const TierSubject& subject, const CudaLibraries& libraries) {
  const auto index = cuda_index(subject.device);
  if (!index || subject.sandbox == nullptr) return std::nullopt;
  const auto nvml = Nvml::open(libraries.nvml);
  if (!nvml.ok()) return std::nullopt;
  const std::vector<pid_t> pids =
      subject.sandbox->cgroup() ? subject.sandbox->cgroup()->pids() : std::vector{subject.sandbox->engine_pid()};
  const auto bytes = nvml->process_bytes(*index, pids);
  return bytes.ok() ? std::optional(*bytes) : std::nullopt;
}

}  // namespace thaw::node
