#include <unistd.h>

#include <fmt/format.h>

#include "node/device/cuda_checkpoint.h"
#include "node/doctor_parts.h"
#include "node/host_access.h"
#include "node/sandbox/cgroup_host.h"
#include "node/tiers/freezer_driver.h"

namespace thaw::node {
namespace {

Finding examine_freezer() {
  const char* topic = "standby freezer";
  if (!check_privileges().ok())
    return {topic, Level::note, "whether engines can be frozen is for root to try", "run thaw doctor as root"};
  const auto host = CgroupHost::detect();
  const std::string label = fmt::format("doctor-{}", ::getpid());
  const Capability capability = freezer_capability(host.ok() ? host->get() : nullptr, label);
  if (host.ok()) (*host)->remove_parent(label);
  if (!capability.works)
    return {topic, Level::warning, "models on the CPU cannot rest, only stop: " + capability.detail, capability.remedy};
  return {topic, capability.remedy.empty() ? Level::ok : Level::note,
          "models on the CPU can rest: " + capability.detail, capability.remedy};
}

Finding examine_cuda_checkpoint() {
  const char* topic = "standby cuda";
  const auto offered = CudaCheckpoint::offered(CudaLibraries{}.driver);
  if (offered.ok()) return {topic, Level::ok, "models on a GPU can rest in host memory (CUDA checkpoints)", ""};
  return {topic, Level::note, "models on a GPU cannot rest, only stop: " + offered.error().message,
          "install NVIDIA's driver 570 or newer"};
}

}  // namespace

std::vector<Finding> examine_standby(const AgentConfig& /*config*/, const CudaSurvey& cuda) {
  std::vector<Finding> findings{examine_freezer()};
  if (!cuda.gpus.empty()) findings.push_back(examine_cuda_checkpoint());
  return findings;
}

}  // namespace thaw::node
