#include "node/tiers/runsc_driver.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "node/limits.h"

namespace thaw::node {
namespace {

using base::Error;
using base::ErrorKind;

// Old releases always compress, at some 100 MB/s; newer ones write as fast as the disk.
constexpr double kCompressed_bytes_per_s = 100e6;
constexpr double kPlain_bytes_per_s = 1e9;

Capability capability_of(const base::Result<RunscMaker*>& maker) {
  if (!maker.ok()) return incapable(maker.error());
  const RunscInfo& info = (*maker)->info();
  return {true, fmt::format("gVisor {} ({})", info.version, info.platform()), ""};
}

}  // namespace

RunscDriver::RunscDriver(base::Result<RunscMaker*> maker, std::map<std::string, std::string> engine_paths, Probe probe,
                         Take take)
    : ImageDriver(capability_of(maker), std::move(engine_paths), std::move(probe)),
      maker_(maker.ok() ? *maker : nullptr),
      take_(std::move(take)) {}

base::Status RunscDriver::accepts(const TierSubject& subject) const {
  if (!capability().works) return Error{ErrorKind::unavailable, capability().detail};
  if (subject.model.resources.device != spec::DeviceKind::cpu)
    return Error{ErrorKind::unavailable, "gVisor's checkpoints do not hold a GPU's memory"};
  if (subject.sandbox != nullptr && !maker_->made(*subject.sandbox))
    return Error{ErrorKind::unavailable, "it runs in no gVisor sandbox (spec.sandbox: runsc)"};
  return {};
}

double RunscDriver::bytes_per_s() const {
  const bool plain = maker_ != nullptr && maker_->info().checkpoint.contains("compression");
  return plain ? kPlain_bytes_per_s : kCompressed_bytes_per_s;
}

base::Status RunscDriver::save(const TierSubject& subject, const TierCall& call) {
  return maker_->checkpoint(*subject.sandbox, subject.image, call.left());
}

base::Result<std::unique_ptr<Sandbox>> RunscDriver::furnished(base::InstanceId instance,
                                                              const SandboxContents& contents) const {
  if (std::unique_ptr<Sandbox> sandbox = take_ ? take_() : nullptr) {
    const auto exposed = sandbox->expose(contents);
    if (exposed.ok()) return sandbox;
    spdlog::warn("instance {}: {}; making a sandbox for it instead", instance.value(), exposed.error().message);
  }
  return maker_->make(instance, contents);
}

base::Result<std::unique_ptr<Sandbox>> RunscDriver::come_up(const TierSubject& subject, const EngineLaunch& launch, const TierCall& /*call*/,
                                                            PhaseClock& clock) {
  THAW_ASSIGN_OR_RETURN(std::unique_ptr<Sandbox> sandbox,
                        furnished(subject.instance, {launch.model_files, launch.engine_dir, {}}));
  THAW_RETURN_IF_ERROR(sandbox->limit(limits_for(subject.model, spec::SandboxKind::runsc)));
  clock.finish("sandbox");
  THAW_RETURN_IF_ERROR(maker_->restore(*sandbox, subject.image, launch.argv, launch.env));
  return sandbox;
}

}  // namespace thaw::node
