#include <unistd.h>

#include <filesystem>
#include <system_error>

#include <fmt/format.h>

#include "base/units.h"
#include "node/device/devices.h"
#include "node/device/host_memory.h"
#include "node/doctor_parts.h"
#include "node/sandbox/files.h"

namespace thaw::node {
namespace {

/// An NVIDIA display controller or accelerator on the bus, whether or not a driver knows it.
bool nvidia_hardware() {
  std::error_code error;
  for (const auto& device : std::filesystem::directory_iterator("/sys/bus/pci/devices", error)) {
    const auto vendor = read_small_file((device.path() / "vendor").string());
    const auto device_class = read_small_file((device.path() / "class").string());
    if (vendor.ok() && device_class.ok() && vendor->starts_with("0x10de") && device_class->starts_with("0x03")) return true;
  }
  return false;
}

}  // namespace

Finding examine_memory(const AgentConfig& config) {
  const HostMemory memory = read_host_memory();
  const auto devices = find_devices(config, {"", ""});  // the CPU alone
  const std::uint64_t budget = devices.front().budget_bytes;
  std::string text = fmt::format("{}: models may hold {} of {}, {} are free now", devices.front().name, base::format_bytes(budget),
                                 base::format_bytes(memory.usable_bytes()), base::format_bytes(memory.available_bytes));
  if (memory.limit_bytes < memory.total_bytes) text += " (limited by thaw's own control group)";
  if (config.cpu_memory_bytes.value_or(0) > memory.usable_bytes()) {
    return {"cpu", Level::warning, fmt::format("{}; devices.cpu.memory asks for {}", text, base::format_bytes(*config.cpu_memory_bytes)),
            "lower devices.cpu.memory"};
  }
  if (memory.available_bytes < budget / 2) {
    return {"cpu", Level::warning, text, "stop other programs, or set devices.cpu.memory to what models may really have"};
  }
  return {"cpu", Level::ok, text, ""};
}

std::vector<Finding> examine_cuda(const AgentConfig& config, const CudaSurvey& cuda) {
  if (cuda.gpus.empty()) {
    if (!nvidia_hardware()) return {{"cuda", Level::note, "no NVIDIA device: models run on the CPU", "nothing, if none is meant to be here; else look for it with lspci -d 10de:"}};
    return {{"cuda", Level::warning, "an NVIDIA device is there, but cannot be used: " + cuda.problem,
             "install the NVIDIA driver with libcuda.so.1 (Debian: nvidia-driver, libcuda1), then reboot"}};
  }
  std::vector<Finding> findings;
  for (std::size_t i = 0; i < cuda.gpus.size(); ++i) {
    const GpuInfo& gpu = cuda.gpus[i];
    const std::uint64_t budget = gpu.total_bytes - std::min(gpu.total_bytes, config.cuda_reserve_bytes);
    findings.push_back({fmt::format("cuda{}", i), Level::ok,
                        fmt::format("{}: models may hold {} of {}; driver {}, CUDA {}", gpu.name, base::format_bytes(budget),
                                    base::format_bytes(gpu.total_bytes), cuda.driver_version, cuda.cuda_version), ""});
  }
  if (!cuda.problem.empty()) {
    findings.push_back({"nvml", Level::warning, "when a stopped model's device memory is back cannot be seen: " + cuda.problem,
                        "install NVIDIA's libnvidia-ml.so.1 (Debian: libnvidia-ml1)"});
  }
  for (const char* node : {"/dev/nvidiactl", "/dev/nvidia-uvm"}) {
    if (::access(node, F_OK) == 0) continue;
    findings.push_back({"cuda devices", Level::warning, fmt::format("{} is missing: sandboxes could not use the device", node),
                        "nvidia-modprobe -u -c 0"});
  }
  return findings;
}

}  // namespace thaw::node
