#include "node/device/handover.h"

#include <algorithm>
#include <limits>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "base/units.h"
#include "node/device/devices.h"
#include "spec/trust.h"

namespace thaw::node {

DeviceHandover::Device& DeviceHandover::device_of(std::uint32_t index) {
  const std::lock_guard lock(mutex_);
  return devices_[index];
}

base::Status DeviceHandover::take(base::InstanceId instance, const base::TenantName& tenant,
                                  const std::vector<base::DeviceId>& devices, std::uint64_t bytes) {
  const bool trusted = spec::trust_of(tenant) == spec::Trust::own;
  for (const base::DeviceId& device : devices) {
    const auto index = cuda_index(device);
    if (!index) continue;
    if (const base::Status taken = take_one(instance, tenant.str(), trusted, *index, bytes); !taken.ok()) {
      give_back(instance);
      return taken.error().within(fmt::format(
          "what other tenants' models left on {} cannot be written over, so that it is not given to another",
          device.str()));
    }
  }
  return {};
}

base::Status DeviceHandover::take_one(base::InstanceId instance, const std::string& tenant, bool trusted,
                                      std::uint32_t index, std::uint64_t bytes) {
  Device& device = device_of(index);
  const std::lock_guard one_at_a_time(device.zeroing);
  bool leftovers = false;
  bool alone = false;
  {
    const std::lock_guard lock(mutex_);
    leftovers = device.unknown || std::any_of(device.left_by.begin(), device.left_by.end(),
                                              [&](const std::string& other) { return other != tenant; });
    alone = device.holders.empty();
    if (trusted || !leftovers) {
      device.holders[instance] = tenant;
      return {};
    }
  }
  THAW_ASSIGN_OR_RETURN(const std::uint64_t zeroed_bytes,
                        zero_(index, alone ? std::numeric_limits<std::uint64_t>::max() : bytes));
  spdlog::info("{} of cuda{} were written over before a model of tenant {} gets it", base::format_bytes(zeroed_bytes),
               index, tenant);
  const std::lock_guard lock(mutex_);
  if (alone) {
    device.left_by.clear();
    device.unknown = false;
  }
  device.holders[instance] = tenant;
  return {};
}

void DeviceHandover::give_back(base::InstanceId instance) {
  const std::lock_guard lock(mutex_);
  for (auto& [index, device] : devices_) {
    const auto held = device.holders.find(instance);
    if (held == device.holders.end()) continue;
    device.left_by.insert(held->second);
    device.holders.erase(held);
  }
}

}  // namespace thaw::node
