#pragma once

#include <memory>
#include <string>
#include <vector>

#include "node/sandbox/runc.h"
#include "node/tiers/driver.h"
#include "node/weights/page_fill.h"

namespace thaw::node {

/// The drivers of one node, in the order in which they are asked whether they take an instance: the engine's own sleep,
/// CUDA's checkpoints, the freezer. Immutable once made; any thread.
class TierDrivers {
 public:
  /// `cuda`: whether this host has CUDA devices; without, NVIDIA's driver is not touched. `filler` must outlive it.
  TierDrivers(const SandboxHome& home, PageFiller& filler, bool cuda);

  /// The driver that takes this ready instance to standby; null when none does. `why_not`, if given: each driver's
  /// reason.
  [[nodiscard]] TierDriver* for_standby(const TierSubject& subject, std::string* why_not = nullptr) const;
  [[nodiscard]] TierDriver* find(wire::DriverKind kind) const;

  /// What each can do on this host, for each kind of device it has, as the controller is told.
  [[nodiscard]] std::vector<wire::DriverInfo> infos() const;

 private:
  struct Entry {
    wire::DriverKind kind;
    spec::DeviceKind device;  ///< that its instances are on
    std::unique_ptr<TierDriver> driver;
  };
  std::vector<Entry> entries_;
};

/// Of a driver of TierDrivers.
wire::DriverKind kind_of(const TierDriver& driver);

}  // namespace thaw::node
