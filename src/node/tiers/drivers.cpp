#include "node/tiers/drivers.h"

#include "node/tiers/cuda_checkpoint_driver.h"
#include "node/tiers/engine_driver.h"
#include "node/tiers/freezer_driver.h"

namespace thaw::node {

TierDrivers::TierDrivers(const SandboxHome& home, PageFiller& filler, bool cuda) {
  using spec::DeviceKind;
  using wire::DriverKind;
  if (cuda) entries_.push_back({DriverKind::engine, DeviceKind::cuda, std::make_unique<EngineDriver>()});
  // Whatever sleeps on a CPU does so by the same calls; nobody's engine does unless its arguments say so.
  entries_.push_back({DriverKind::engine, DeviceKind::cpu, std::make_unique<EngineDriver>()});
  if (cuda) entries_.push_back({DriverKind::cuda, DeviceKind::cuda, std::make_unique<CudaCheckpointDriver>()});
  entries_.push_back(
      {DriverKind::freezer, DeviceKind::cpu, std::make_unique<FreezerDriver>(home.cgroups, home.label, filler)});
}

TierDriver* TierDrivers::for_standby(const TierSubject& subject, std::string* why_not) const {
  for (const Entry& entry : entries_) {
    if (entry.driver->keeps() != Keeps::process) continue;
    const auto accepted = entry.driver->accepts(subject);
    if (accepted.ok()) return entry.driver.get();
    if (why_not != nullptr)
      *why_not += (why_not->empty() ? "" : "; ") + std::string(entry.driver->name()) + ": " + accepted.error().message;
  }
  return nullptr;
}

TierDriver* TierDrivers::find(wire::DriverKind kind) const {
  for (const Entry& entry : entries_)
    if (entry.kind == kind) return entry.driver.get();
  return nullptr;
}

std::vector<wire::DriverInfo> TierDrivers::infos() const {
  std::vector<wire::DriverInfo> infos;
  for (const Entry& entry : entries_) {
    wire::DriverInfo info;
    info.driver = entry.kind;
    info.device = entry.device;
    const Capability& capability = entry.driver->capability();
    info.standby = capability.works && entry.driver->keeps() == Keeps::process;
    info.snapshot = capability.works && entry.driver->keeps() == Keeps::image;
    if (!capability.works)
      info.why_not = capability.detail + (capability.remedy.empty() ? "" : "; " + capability.remedy);
    infos.push_back(std::move(info));
  }
  return infos;
}

wire::DriverKind kind_of(const TierDriver& driver) {
  if (driver.name() == "engine") return wire::DriverKind::engine;
  if (driver.name() == "cuda") return wire::DriverKind::cuda;
  if (driver.name() == "criu") return wire::DriverKind::criu;
  return driver.name() == "runsc" ? wire::DriverKind::runsc : wire::DriverKind::freezer;
}

}  // namespace thaw::node
