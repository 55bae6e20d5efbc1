#include "node/device/grants.h"

#include <algorithm>
#include <cctype>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "node/cdi/image_grant.h"
#include "node/device/devices.h"
#include "node/sandbox/host_view.h"

namespace thaw::node {
namespace {

constexpr const char* kRemedy = "write them with NVIDIA's container toolkit: nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml";

/// As its files call it.
std::string cdi_name(std::uint32_t index, const CdiRegistry& registry, const CudaLibraries& libraries) {
  const std::vector<std::string> known = registry.devices(kNvidiaKind);
  const auto is_known = [&](const std::string& name) { return std::find(known.begin(), known.end(), name) != known.end(); };
  std::string name = std::to_string(index);
  if (!is_known(name)) {
    const auto nvml = Nvml::open(libraries.nvml);
    const auto uuid = nvml.ok() ? nvml->uuid_of(index) : base::Result<std::string>(nvml.error());
    if (uuid.ok() && is_known(*uuid)) name = *uuid;
  }
  return std::string(kNvidiaKind) + "=" + name;
}

base::Result<DeviceGrant> grant_files(const std::vector<base::DeviceId>& devices, const CudaLibraries& libraries) {
  DeviceGrant grant;
  for (const base::DeviceId& device : devices) {
    for (const std::string& path : device_nodes(device, libraries)) {
      const bool there = std::any_of(grant.nodes.begin(), grant.nodes.end(), [&](const GrantedNode& node) { return node.host_path == path; });
      if (there) continue;
      THAW_ASSIGN_OR_RETURN(GrantedNode node, device_node(path));
      grant.nodes.push_back(std::move(node));
    }
  }
  return grant;
}

constexpr const char* kLibraryPath = "LD_LIBRARY_PATH";
constexpr const char* kVisible = "CUDA_VISIBLE_DEVICES";

/// /dev/nvidia7 and the like.
bool is_gpu_file(const std::string& path) {
  constexpr std::string_view kPrefix = "/dev/nvidia";
  return path.starts_with(kPrefix) && path.size() > kPrefix.size() &&
         std::all_of(path.begin() + kPrefix.size(), path.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
}

/// The devices by their ranks among themselves, where each has its device file and no others are there; else empty.
std::string numbers_inside(const std::vector<base::DeviceId>& devices, const DeviceGrant& grant) {
  std::vector<std::uint32_t> indices;
  for (const base::DeviceId& device : devices)
    if (const auto index = cuda_index(device)) indices.push_back(*index);
  const auto files = std::count_if(grant.nodes.begin(), grant.nodes.end(), [](const GrantedNode& node) { return is_gpu_file(node.inside_path); });
  if (static_cast<std::size_t>(files) != indices.size()) return {};
  std::string numbers;
  for (const std::uint32_t index : indices) {
    const auto rank = std::count_if(indices.begin(), indices.end(), [&](std::uint32_t other) { return other < index; });
    numbers += (numbers.empty() ? "" : ",") + std::to_string(rank);
  }
  return numbers;
}

}  // namespace

base::Result<DeviceGrant> grant_devices(const std::vector<base::DeviceId>& devices, const GrantSettings& settings) {
  const bool gpus = std::any_of(devices.begin(), devices.end(), [](const base::DeviceId& device) { return cuda_index(device).has_value(); });
  if (!gpus) return DeviceGrant{};
  const CdiRegistry registry = CdiRegistry::load(settings.cdi_directories);
  if (!registry.has_kind(kNvidiaKind)) {
    for (const std::string& problem : registry.problems()) spdlog::warn("{}", problem);
    if (!settings.cdi_required && !settings.for_image) return grant_files(devices, settings.libraries);
    const char* why = settings.for_image ? "a container image has no driver's libraries, and no CDI file says which are to be mounted into it"
                                         : "node.cdi is required, and no CDI file declares any";
    return base::Error{base::ErrorKind::not_found, fmt::format("cannot grant GPUs: {}; {}", why, kRemedy)};
  }
  std::vector<std::string> names;
  for (const base::DeviceId& device : devices)
    if (const auto index = cuda_index(device)) names.push_back(cdi_name(*index, registry, settings.libraries));
  auto edits = registry.edits_for(names);
  if (!edits.ok()) return base::Error{edits.error().kind, edits.error().message + "; " + kRemedy}.within("cannot grant GPUs");
  auto grant = settings.for_image ? image_grant_of(*edits) : grant_of(*edits, host_view_paths());
  if (!grant.ok()) return grant.error().within("cannot grant GPUs as their CDI files say");
  return grant;
}

void set_device_environment(const std::vector<base::DeviceId>& devices, const DeviceGrant& grant, const std::map<std::string, std::string>& own,
                            std::map<std::string, std::string>& env) {
  for (const auto& [name, value] : grant.env) env[name] = value;
  const std::string numbers = numbers_inside(devices, grant);
  if (!numbers.empty() && !own.contains(kVisible)) env[kVisible] = numbers;
  if (grant.library_dirs.empty()) return;
  const std::string driver = fmt::format("{}", fmt::join(grant.library_dirs, ":"));
  std::string& path = env[kLibraryPath];
  const std::string rest = path.empty() ? std::string() : ":" + path;
  path = own.contains(kLibraryPath) && !path.empty() ? path + ":" + driver : driver + rest;
}

}  // namespace thaw::node
