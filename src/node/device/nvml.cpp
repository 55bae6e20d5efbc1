#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "node/device/cuda_survey.h"

namespace thaw::node {
namespace {

using namespace cuda_abi;  // NOLINT(google-build-using-namespace): the names of NVIDIA's interface
using base::Error;
using base::ErrorKind;

constexpr unsigned int kMaxDevices = 256;
constexpr unsigned int kMaxProcesses = 4096;

}  // namespace

Error Nvml::failure(const std::string& call, nvmlReturn_t code) const {
  const auto text = library_.find<nvmlErrorString_t>("nvmlErrorString");
  return {ErrorKind::unavailable, fmt::format("{} failed: {}", call, text.ok() ? (*text)(code) : fmt::format("code {}", code))};
}

base::Result<Nvml> Nvml::open(const std::string& library_name) {
  THAW_ASSIGN_OR_RETURN(auto library, SharedLibrary::open(library_name));
  THAW_ASSIGN_OR_RETURN(const auto init, library.find<nvmlInit_v2_t>("nvmlInit_v2"));
  if (const nvmlReturn_t code = init(); code != kNvmlSuccess) {
    const auto text = library.find<nvmlErrorString_t>("nvmlErrorString");
    return Error{ErrorKind::unavailable, fmt::format("nvmlInit failed: {}", text.ok() ? (*text)(code) : fmt::format("code {}", code))};
  }
  return Nvml(std::move(library));
}

Nvml::~Nvml() {
  if (const auto shutdown = library_.find_if_open<nvmlShutdown_t>("nvmlShutdown"); shutdown) shutdown();
}

base::Result<nvmlDevice_t> Nvml::handle(std::uint32_t index) const {
  THAW_ASSIGN_OR_RETURN(const auto get, library_.find<nvmlDeviceGetHandleByIndex_v2_t>("nvmlDeviceGetHandleByIndex_v2"));
  nvmlDevice_t device = nullptr;
  if (const auto code = get(index, &device); code != kNvmlSuccess) return failure("nvmlDeviceGetHandleByIndex", code);
  return device;
}

base::Result<std::vector<GpuInfo>> Nvml::devices() const {
  THAW_ASSIGN_OR_RETURN(const auto get_count, library_.find<nvmlDeviceGetCount_v2_t>("nvmlDeviceGetCount_v2"));
  THAW_ASSIGN_OR_RETURN(const auto get_name, library_.find<nvmlDeviceGetName_t>("nvmlDeviceGetName"));
  THAW_ASSIGN_OR_RETURN(const auto get_uuid, library_.find<nvmlDeviceGetUUID_t>("nvmlDeviceGetUUID"));
  THAW_ASSIGN_OR_RETURN(const auto get_memory, library_.find<nvmlDeviceGetMemoryInfo_t>("nvmlDeviceGetMemoryInfo"));
  unsigned int count = 0;
  if (const auto code = get_count(&count); code != kNvmlSuccess) return failure("nvmlDeviceGetCount", code);
  std::vector<GpuInfo> gpus;
  for (unsigned int index = 0; index < std::min(count, kMaxDevices); ++index) {
    THAW_ASSIGN_OR_RETURN(const nvmlDevice_t device, handle(index));
    std::array<char, kNvmlNameBytes> name{};
    std::array<char, kNvmlUuidBytes> uuid{};
    nvmlMemory_t memory{};
    if (const auto code = get_name(device, name.data(), kNvmlNameBytes); code != kNvmlSuccess) return failure("nvmlDeviceGetName", code);
    if (const auto code = get_uuid(device, uuid.data(), kNvmlUuidBytes); code != kNvmlSuccess) return failure("nvmlDeviceGetUUID", code);
    if (const auto code = get_memory(device, &memory); code != kNvmlSuccess) return failure("nvmlDeviceGetMemoryInfo", code);
    const auto minor = minor_of(index);
    gpus.push_back({name.data(), uuid.data(), memory.total, minor.ok() ? std::optional(*minor) : std::nullopt});
  }
  return gpus;
}

base::Result<std::uint64_t> Nvml::free_bytes(std::uint32_t index) const {
  THAW_ASSIGN_OR_RETURN(const auto get, library_.find<nvmlDeviceGetMemoryInfo_t>("nvmlDeviceGetMemoryInfo"));
  THAW_ASSIGN_OR_RETURN(const nvmlDevice_t device, handle(index));
  nvmlMemory_t memory{};
  if (const auto code = get(device, &memory); code != kNvmlSuccess) return failure("nvmlDeviceGetMemoryInfo", code);
  return memory.free;
}

base::Result<std::string> Nvml::uuid_of(std::uint32_t index) const {
  THAW_ASSIGN_OR_RETURN(const auto get, library_.find<nvmlDeviceGetUUID_t>("nvmlDeviceGetUUID"));
  THAW_ASSIGN_OR_RETURN(const nvmlDevice_t device, handle(index));
  std::array<char, kNvmlUuidBytes> uuid{};
  if (const auto code = get(device, uuid.data(), kNvmlUuidBytes); code != kNvmlSuccess) return failure("nvmlDeviceGetUUID", code);
  return std::string(uuid.data());
}

base::Result<std::uint32_t> Nvml::minor_of(std::uint32_t index) const {
  THAW_ASSIGN_OR_RETURN(const auto get, library_.find<nvmlDeviceGetMinorNumber_t>("nvmlDeviceGetMinorNumber"));
  THAW_ASSIGN_OR_RETURN(const nvmlDevice_t device, handle(index));
  unsigned int minor = 0;
  if (const auto code = get(device, &minor); code != kNvmlSuccess) return failure("nvmlDeviceGetMinorNumber", code);
  return minor;
}

base::Result<std::vector<nvmlProcessInfo_t>> Nvml::compute_processes(std::uint32_t index) const {
  THAW_ASSIGN_OR_RETURN(const auto get, library_.find<nvmlDeviceGetComputeRunningProcesses_v3_t>(
                                             "nvmlDeviceGetComputeRunningProcesses_v3"));
  THAW_ASSIGN_OR_RETURN(const nvmlDevice_t device, handle(index));
  std::vector<nvmlProcessInfo_t> processes(64);
  while (true) {
    auto count = static_cast<unsigned int>(processes.size());
    const auto code = get(device, &count, processes.data());
    if (code == kNvmlErrorInsufficientSize && processes.size() < kMaxProcesses) {
      processes.resize(processes.size() * 2);
      continue;
    }
    if (code != kNvmlSuccess) return failure("nvmlDeviceGetComputeRunningProcesses", code);
    processes.resize(std::min<std::size_t>(count, processes.size()));
    return processes;
  }
}

base::Result<bool> Nvml::has_compute_process(std::uint32_t index, pid_t pid) const {
  THAW_ASSIGN_OR_RETURN(const auto processes, compute_processes(index));
  return std::any_of(processes.begin(), processes.end(),
                     [pid](const nvmlProcessInfo_t& process) { return process.pid == static_cast<unsigned int>(pid); });
}

base::Result<std::uint64_t> Nvml::process_bytes(std::uint32_t index, const std::vector<pid_t>& pids) const {
  THAW_ASSIGN_OR_RETURN(const auto processes, compute_processes(index));
  std::uint64_t bytes = 0;
  for (const nvmlProcessInfo_t& process : processes) {
    if (std::find(pids.begin(), pids.end(), static_cast<pid_t>(process.pid)) == pids.end()) continue;
    if (process.usedGpuMemory == kNvmlValueNotAvailable)
      return Error{ErrorKind::unavailable, fmt::format("NVML does not say how much device memory process {} holds", process.pid)};
    bytes += process.usedGpuMemory;
  }
  return bytes;
}

std::string Nvml::driver_version() const {
  const auto get = library_.find<nvmlSystemGetDriverVersion_t>("nvmlSystemGetDriverVersion");
  std::array<char, kNvmlVersionBytes> version{};
  if (!get.ok() || (*get)(version.data(), kNvmlVersionBytes) != kNvmlSuccess) return "";
  return version.data();
}

}  // namespace thaw::node
