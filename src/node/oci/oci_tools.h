#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "base/result.h"
#include "node/oci/confined_run.h"
#include "node/oci/image_json.h"
#include "spec/image_ref.h"
#include "spec/server_config.h"

namespace thaw::node {

/// Full path of the program, or not_found with the remedy.
base::Result<std::string> find_skopeo();
base::Result<std::string> find_umoci();

/// A way to the network for one run of skopeo: at the least a namespace in which a proxy of ours listens. Let go of, it is gone.
class RegistryNetwork {
 public:
  virtual ~RegistryNetwork() = default;
  [[nodiscard]] virtual std::string namespace_path() const = 0;
  [[nodiscard]] virtual std::vector<std::string> env() const = 0;
  /// Why the last connection was refused; empty: none was. That is what skopeo failed of, then.
  [[nodiscard]] virtual std::string refusal() const = 0;
  /// Why one failed.
  [[nodiscard]] virtual std::string failure() const = 0;
};
using MakeRegistryNetwork = std::function<base::Result<std::unique_ptr<RegistryNetwork>>(const spec::ImageRef& ref)>;

/// skopeo and umoci, called as confined_run.h has it. Any thread.
class OciTools {
 public:
  struct Options {
    spec::ServerConfig::Node::ContainerImages settings;
    std::string policy_path;                               ///< a policy that exists
    std::string skopeo = {}, umoci = {};                   ///< full paths; empty: the host's
    std::uint32_t uid = 0;                                 ///< that they run as
    std::function<std::unique_ptr<Cgroup>()> cgroup = {};  ///< for one run; null: without
    MakeRegistryNetwork network = {};                      ///< for docker://; absent: registries are reached over the host's own network
  };
  explicit OciTools(Options options) : options_(std::move(options)) {}

  [[nodiscard]] std::uint32_t uid() const { return options_.uid; }

  // `work`: a directory of uid()'s, for what they keep for a moment.
  /// The manifest or index itself, of at most kMaxManifest_bytes. `digest`: of another one in the same repository; empty: what `ref` says.
  base::Result<std::string> manifest(const spec::ImageRef& ref, const std::string& digest, const std::string& work,
                                     const std::stop_token& stop) const;
  base::Result<std::string> config(const spec::ImageRef& ref, const std::string& digest, const std::string& work, const std::stop_token& stop) const;
  /// Fetches the image into an OCI layout at `layout` (in a directory of uid()'s). What is there of it already is not fetched again.
  base::Status copy(const spec::ImageRef& ref, const std::string& digest, const std::string& layout, const std::string& work,
                    const std::function<base::Status()>& watch, const std::stop_token& stop) const;
  /// Unpacks the only layer of the image "layer" in an OCI layout to `directory`, which does not exist.
  base::Status unpack(const std::string& layout, const std::string& directory, const std::string& work, const std::function<base::Status()>& watch,
                      const std::stop_token& stop) const;

 private:
  base::Result<std::string> run_skopeo(const spec::ImageRef& ref, std::vector<std::string> argv, const std::string& work, base::Duration timeout,
                                       const std::function<base::Status()>& watch, const std::stop_token& stop) const;

  Options options_;
};

}  // namespace thaw::node
