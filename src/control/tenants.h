#pragma once

#include <cstdint>
#include <optional>

#include "base/ids.h"
#include "base/time.h"
#include "spec/model_spec.h"

/// Tenants share the devices. What one may have of them is said by whoever keeps tenants (Scheduler::set_tenant); one of whom nothing was said has the
/// defaults here. What follows from it is in docs/scheduling.md, "Between tenants".
namespace thaw::control {

struct TenantPolicy {
  base::TenantName tenant;
  /// Its share of the devices where tenants compete, against the weights of those that compete with it; 0.01 to 1,000.
  double weight = 1;
  /// Devices that its replicas hold at once at most, in whole ones: half of a device's memory is half a device. Above 0, to 1,000,000; absent: no limit.
  std::optional<double> max_devices;
  /// Time that its replicas hold devices a day at most, in seconds of a whole device; above 0. When it is used up, its requests are refused until the
  /// day ends; those that are under way are answered. Absent: no limit.
  std::optional<double> max_device_seconds_per_day;
  /// Disk that images of its models take at most, on all nodes; absent: no limit. What is there when it is lowered stays.
  std::optional<std::uint64_t> max_image_bytes;
  /// The highest priority that its requests may ask for; more is lowered to it. Their model's own needs no right.
  spec::Priority max_priority = spec::Priority::high;
  /// When its day ends, in the scheduler's time; the next ones end every 24 h after. Epoch: 24 h after it was first said.
  base::TimePoint day_ends{};
  /// Of this day, what was used before the scheduler was made (it forgets when it ends). Taken when the tenant is first said, ignored later.
  double used_today_device_seconds = 0;
};

constexpr double kMinTenantWeight = 0.01, kMaxTenantWeight = 1'000;
constexpr double kMaxTenantDevices = 1'000'000;

/// Seconds of a whole device, by what the replica that held it did.
struct DeviceSeconds {
  double busy = 0;     ///< requests were under way
  double idle = 0;     ///< ready, and none was; in standby, what stays on the device
  double moving = 0;   ///< on its way up or down, or an image was made

  [[nodiscard]] double all() const { return busy + idle + moving; }
};

struct TenantView {
  TenantPolicy policy;
  double devices = 0;             ///< that its replicas hold now
  DeviceSeconds used;             ///< since the scheduler was made
  double used_today_device_seconds = 0;
  base::TimePoint day_ends{};     ///< never(): nothing counts days for it
  bool exhausted = false;         ///< its day's device-seconds are used up
};

}  // namespace thaw::control
