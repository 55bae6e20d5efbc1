#include "node/device/grants.h"

#include <algorithm>

#include <spdlog/spdlog.h>

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

}  // namespace

base::Result<DeviceGrant> grant_devices(const std::vector<base::DeviceId>& devices, const GrantSettings& settings) {
  const bool gpus = std::any_of(devices.begin(), devices.end(), [](const base::DeviceId& device) { return cuda_index(device).has_value(); });
  if (!gpus) return DeviceGrant{};
  const CdiRegistry registry = CdiRegistry::load(settings.cdi_directories);
  if (!registry.has_kind(kNvidiaKind)) {
    for (const std::string& problem : registry.problems()) spdlog::warn("{}", problem);
    if (!settings.cdi_required) return grant_files(devices, settings.libraries);
    return base::Error{base::ErrorKind::not_found, std::string("cannot grant GPUs: node.cdi is required, and no CDI file declares any; ") + kRemedy};
  }
  std::vector<std::string> names;
  for (const base::DeviceId& device : devices)
    if (const auto index = cuda_index(device)) names.push_back(cdi_name(*index, registry, settings.libraries));
  auto edits = registry.edits_for(names);
  if (!edits.ok()) return base::Error{edits.error().kind, edits.error().message + "; " + kRemedy}.within("cannot grant GPUs");
  auto grant = grant_of(*edits, host_view_paths());
  if (!grant.ok()) return grant.error().within("cannot grant GPUs as their CDI files say");
  return grant;
}

}  // namespace thaw::node
