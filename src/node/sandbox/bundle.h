#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "node/cdi/grant.h"
#include "node/sandbox/mounts.h"

/// The OCI bundle of a sandbox: what an engine can see and do. The host's /usr and libraries read-only, a private /tmp, /dev and /proc,
/// its own model and engine, a directory for its socket, and nothing else: no data directory, no other model, no network, no capability.
namespace thaw::node {

/// Paths as the engine sees them.
inline constexpr const char* kInsideRoot = "/thaw";           ///< all that is below is ours
inline constexpr const char* kInsideRun = "/thaw/run";        ///< writable: the engine's socket
inline constexpr const char* kInsideModel = "/thaw/model";
inline constexpr const char* kInsideEngine = "/thaw/engine";
inline constexpr const char* kInsideCache = "/thaw/cache";    ///< writable: what the engine compiles
inline constexpr const char* kInsideSecretsMount = "/thaw/secrets";  ///< kInsideSecrets is a link to it
inline constexpr const char* kInsideInit = "/thaw/init";
inline constexpr const char* kInsideLazyMap = "/thaw/libthaw_lazy_map.so";

/// The uid inside; outside it is uid_base + this.
inline constexpr std::uint32_t kInsideUid = 1000;
/// Uids mapped into one sandbox, and the distance between the ranges of two.
inline constexpr std::uint32_t kUidRange = 65'536;

struct Bundle {
  std::string directory;         ///< config.json goes here
  std::string rootfs;            ///< from make_rootfs, shared by all sandboxes, read-only; or from mount_image_root
  std::string run_dir;           ///< host directory shown at kInsideRun; empty: none
  std::string
      model_dir;  ///< host directory shown at kInsideModel: the model's files, or placeholders for them; empty: none
  std::string open_dir =
      {};  ///< host directory shown at kInsideRoot: what is mounted below it later appears inside, too; empty: none
  std::string init_path;         ///< thaw-init on the host, the first process; empty: `argv` is, on a kernel of its own (gVisor)
  std::vector<std::string> argv = {};           ///< without init_path
  std::map<std::string, std::string> env = {};  ///< without init_path; the whole environment
  std::string working_directory = "/";
  std::string network = {};      ///< file of the network namespace to be in; empty: one of its own with nothing but loopback
  std::string lazy_map_path = {};  ///< libthaw_lazy_map.so on the host, shown at kInsideLazyMap; empty: not shown
  std::string cgroup_path;       ///< "/thaw/<label>/<name>"
  std::uint32_t uid_base = 0;    ///< host uid of the inside's root
  std::uint32_t pids_max = 0;
  std::string report_socket = {};  ///< SeccompOptions::report_socket
  std::vector<Exposure> exposures;         ///< mounted from the start; a sandbox made ahead has none
  DeviceGrant devices = {};                ///< its files, mounts (host paths as runc or runsc sees them) and hooks; its env is the engine's
  bool own_files = false;        ///< rootfs is a container image's: nothing of the host's programs and libraries is shown
  std::string criu_config = {};  ///< file of options for criu, of an annotation that runc knows; empty: none
};

/// The skeleton that sandboxes are rooted in: mount points, links as on the host, a minimal /etc. Safe to call again.
base::Status make_rootfs(const std::string& directory);

/// Writes <directory>/config.json (OCI runtime spec 1.0.2).
base::Status write_bundle(const Bundle& bundle);

}  // namespace thaw::node
