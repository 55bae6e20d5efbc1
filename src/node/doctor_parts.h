#pragma once

#include <string>
#include <vector>

#include "node/agent.h"
#include "node/device/cuda_survey.h"

/// The parts of `thaw doctor`, each a topic or a few. Blocking, some ms each.
namespace thaw::node {

using Level = Finding::Level;

/// A host that cannot make sandboxes serves nobody under runc, and is merely worth a word without sandboxes.
inline Level failure_if_sandboxed(const AgentConfig& config) {
  return config.settings.sandbox != spec::SandboxKind::none ? Level::failure : Level::note;
}

Finding examine_kernel();                                                ///< release, mounts into running sandboxes
Finding examine_privileges(const AgentConfig& config);
Finding examine_user_namespaces(const AgentConfig& config);
Finding examine_cgroups(const AgentConfig& config);
Finding examine_seccomp(const AgentConfig& config);
Finding examine_io_uring();
/// What was measured of the disks of the data directory and of models' files, and whether these can be read directly.
std::vector<Finding> examine_disks(const AgentConfig& config, const std::vector<std::string>& model_files);
Finding examine_direct_io(const AgentConfig& config);
Finding examine_disk(const AgentConfig& config);

Finding examine_runc(const AgentConfig& config);                         ///< makes an empty sandbox and takes it away again
Finding examine_runsc(const AgentConfig& config);                        ///< the same with gVisor, which starts and runs a program
/// vLLM and SGLang, where they are set or found: nobody needs them who does not ask for them.
std::vector<Finding> examine_other_engines(const AgentConfig& config);
Finding examine_engine(const AgentConfig& config, const CudaSurvey& cuda);

/// Which ways to standby work here, and why others do not (docs/standby-drivers.md).
std::vector<Finding> examine_standby(const AgentConfig& config, const CudaSurvey& cuda);
Finding examine_criu(const AgentConfig& config);                         ///< runs its own check

/// Whether models can have container images (docs/images.md).
Finding examine_container_images(const AgentConfig& config);

Finding examine_memory(const AgentConfig& config);
std::vector<Finding> examine_cuda(const AgentConfig& config, const CudaSurvey& cuda);

/// The data directory, or the nearest directory above it that exists.
std::string existing_data_dir(const AgentConfig& config);

}  // namespace thaw::node
