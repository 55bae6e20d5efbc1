#include "node/doctor_parts.h"

namespace thaw::node {

std::vector<Finding> examine_host(const AgentConfig& config, const std::vector<std::string>& model_files) {
  const CudaSurvey cuda = survey_cuda();
  std::vector<Finding> findings{
      examine_kernel(),          examine_privileges(config), examine_cgroups(config),   examine_user_namespaces(config),
      examine_seccomp(config),   examine_runc(config),       examine_runsc(config),     examine_engine(config, cuda),
      examine_memory(config),
  };
  for (Finding& finding : examine_other_engines(config)) findings.push_back(std::move(finding));
  for (Finding& finding : examine_cuda(config, cuda)) findings.push_back(std::move(finding));
  for (Finding& finding : examine_standby(config, cuda)) findings.push_back(std::move(finding));
  findings.push_back(examine_criu(config));
  findings.push_back(examine_container_images(config));
  findings.push_back(examine_disk(config));
  findings.push_back(examine_direct_io(config));
  findings.push_back(examine_io_uring());
  for (Finding& finding : examine_disks(config, model_files)) findings.push_back(std::move(finding));
  return findings;
}

}  // namespace thaw::node
