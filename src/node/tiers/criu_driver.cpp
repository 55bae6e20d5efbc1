#include "node/tiers/criu_driver.h"

#include <fmt/format.h>

#include "base/endpoint.h"
#include "node/limits.h"
#include "node/sandbox/files.h"

namespace thaw::node {
namespace {

using base::Error;
using base::ErrorKind;

// An engine may not have noticed yet that the connection of its last request was closed, and criu takes no half of one.
constexpr int kTries = 3;
constexpr auto kBetweenTries = base::Millis(200);

Capability capability_of(const base::Result<RuncMaker*>& maker) {
  if (!maker.ok()) return incapable(maker.error());
  const base::Result<CriuInfo>& criu = (*maker)->criu();
  if (!criu.ok()) return incapable(criu.error());
  return {true, fmt::format("criu {}", criu->version), ""};
}

}  // namespace

CriuDriver::CriuDriver(base::Result<RuncMaker*> maker, std::map<std::string, std::string> engine_paths, Probe probe)
    : ImageDriver(capability_of(maker), std::move(engine_paths), std::move(probe)),
      maker_(maker.ok() ? *maker : nullptr) {}

base::Status CriuDriver::accepts(const TierSubject& subject) const {
  if (!capability().works) return Error{ErrorKind::unavailable, capability().detail};
  if (subject.model.resources.device != spec::DeviceKind::cpu)
    return Error{ErrorKind::unavailable, "criu's images do not hold a GPU's memory"};
  if (subject.sandbox == nullptr) return {};
  if (!RuncMaker::can_checkpoint(*subject.sandbox))
    return Error{ErrorKind::unavailable, "it runs in no runc sandbox that was made for it"};
  const auto endpoint = base::parse_endpoint(subject.sandbox->socket_path());
  if (endpoint.ok() && endpoint->unix_path.empty())
    return Error{ErrorKind::unavailable,
                 "its engine listens on TCP, and criu's images hold engines on a Unix socket only"};
  return {};
}

base::Status CriuDriver::save(const TierSubject& subject, const TierCall& call) {
  base::Status saved;
  for (int attempt = 0; attempt < kTries; ++attempt) {
    if (attempt > 0) {
      THAW_RETURN_IF_ERROR(call.pause(kBetweenTries));
      THAW_RETURN_IF_ERROR(remove_tree(subject.image));
      THAW_RETURN_IF_ERROR(make_directories(subject.image, 0700));
    }
    saved = maker_->checkpoint(*subject.sandbox, subject.image, call.left());
    if (saved.ok() || saved.error().kind != ErrorKind::unavailable || subject.sandbox->ended()) break;
  }
  return saved;
}

base::Result<std::unique_ptr<Sandbox>> CriuDriver::come_up(const TierSubject& subject, const EngineLaunch& launch,
                                                           const TierCall& call, PhaseClock& /*clock*/) {
  if (launch.tcp) return Error{ErrorKind::unavailable, "its engine listens on TCP"};
  THAW_ASSIGN_OR_RETURN(std::unique_ptr<Sandbox> sandbox,
                        maker_->restore({launch.model_files, launch.engine_dir, {}}, subject.image, call.left()));
  THAW_RETURN_IF_ERROR(sandbox->limit(limits_for(subject.model, spec::SandboxKind::runc)));
  return sandbox;
}

}  // namespace thaw::node
