#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"

namespace thaw::node {

/// Sees to it that no tenant's model finds on a GPU what another's left there: what was given back is written over
/// before a tenant's engine gets the device. Between models of one tenant, and for the operator's own (who is trusted
/// with all of them), nothing is done.
///
/// Beside other models' engines only as much is written over as the new one is going to take: they may want the rest,
/// and which memory the driver then gives to whom nobody but it knows. The device is thus remembered as one that has
/// leftovers until it was once all free and written over.
///
///     take() ── the engine runs ── give_back() ── in standby ── take() ── runs ── give_back(), gone
///
/// Any thread. take() may block for as long as the driver pleases; two on one device come one after the other.
class DeviceHandover {
 public:
  /// Writes over at most so many bytes of a device's free memory: how many it were (zero_free_memory).
  using Zero = std::function<base::Result<std::uint64_t>(std::uint32_t index, std::uint64_t at_most_bytes)>;
  explicit DeviceHandover(Zero zero) : zero_(std::move(zero)) {}
  DeviceHandover(const DeviceHandover&) = delete;
  DeviceHandover& operator=(const DeviceHandover&) = delete;

  /// Before an instance uses its devices, at a start and at a wake. `bytes`: of each, that the books have for it.
  /// Errors say what is to be done; nobody has taken anything then. CPUs are no matter.
  [[nodiscard]] base::Status take(base::InstanceId instance, const base::TenantName& tenant,
                                  const std::vector<base::DeviceId>& devices, std::uint64_t bytes);
  /// It has given its memory back: in standby, or for good. Unknown instances are fine.
  void give_back(base::InstanceId instance);

 private:
  struct Device {
    std::mutex zeroing;                               ///< one at a time; taken before mutex_
    std::map<base::InstanceId, std::string> holders;  ///< whose instances use it
    std::set<std::string> left_by;                    ///< tenants whose leftovers may be in it
    bool unknown = true;                              ///< nobody knows who used it before this server
  };
  base::Status take_one(base::InstanceId instance, const std::string& tenant, bool trusted, std::uint32_t index,
                        std::uint64_t bytes);
  Device& device_of(std::uint32_t index);

  const Zero zero_;
  std::mutex mutex_;
  std::map<std::uint32_t, Device> devices_;  ///< nodes are never removed
};

}  // namespace thaw::node
