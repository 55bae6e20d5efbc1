#include "node/limits.h"

namespace thaw::node {
namespace {

constexpr std::uint64_t kMiB = 1ULL << 20;
// What an estimate of weights, KV and compute buffers leaves out: code and libraries (llama-server: 20 MB), thread stacks, request bodies being parsed.
constexpr std::uint64_t kEngineBase_bytes = 256 * kMiB;
// Mapped weights are page cache, charged here and reclaimable: without slack above the estimate the kernel would read them again and again.
constexpr std::uint64_t kSlackDivisor = 8;
// CUDA's context and libraries in host memory, pinned staging buffers.
constexpr std::uint64_t kCudaHost_bytes = 4096 * kMiB;
constexpr std::uint32_t kMaxPids = 512;  // threads count: llama-server has one a core and a few
constexpr std::uint32_t kMaxOthersPids = 8'192;  // several processes, each with a few pools of a thread a core; compilers beside them

constexpr std::uint64_t kGvisor_bytes = 128 * kMiB;
constexpr std::uint32_t kGvisorPids = 512;  // a thread or two of the sandbox for each of the engine's

}  // namespace

CgroupLimits limits_for(const spec::ModelSpec& model, spec::SandboxKind sandbox) {
  const spec::Resources& resources = model.resources;
  const std::uint64_t device = resources.device_memory_bytes.value_or(0);
  CgroupLimits limits;
  limits.pids = resources.pids.value_or(model.engine == spec::EngineKind::llama_cpp ? kMaxPids : kMaxOthersPids);
  limits.cpus = resources.cpus;
  if (resources.device == spec::DeviceKind::cpu)
    limits.memory_bytes = device + resources.host_memory_bytes.value_or(kEngineBase_bytes + device / kSlackDivisor);
  else
    limits.memory_bytes = resources.host_memory_bytes.value_or(kCudaHost_bytes + device);
  if (sandbox == spec::SandboxKind::runsc) {
    limits.memory_bytes += kGvisor_bytes;
    limits.pids += kGvisorPids;
  }
  return limits;
}

}  // namespace thaw::node
