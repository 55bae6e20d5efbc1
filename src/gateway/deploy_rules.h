#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "gateway/exchange.h"
#include "gateway/tenants.h"
#include "spec/model_spec.h"

namespace thaw::gateway {

class Server;

/// From where on the node a deployer may take files.
struct SourceRule {
  bool confined = false;  ///< false: from everywhere
  std::string tenant;
  std::vector<std::string> directories;
  std::vector<std::string> registries = {};  ///< of container images
};

/// Tenants are confined to the directories that their operator gave them; the default tenant, and who runs the
/// platform, are not.
SourceRule source_rule(const Caller& caller, const Tenant* tenant, const std::vector<std::string>& registries = {});

/// Whether everything that the spec would have the node open lies where it may: weights, engine, and arguments that are
/// paths. Symbolic links are followed, and the spec keeps where they led. ErrorKind::denied for what lies elsewhere,
/// whether it is there or not. Waits for the disk.
base::Status keep_to_sources(spec::ModelSpec& spec, const SourceRule& rule);

/// Gives a spec that was sent its place among all tenants' models; or the answer to a caller that may not deploy it.
std::optional<ApiError> give_to_tenant(Server& server, Exchange& exchange, spec::ModelSpec& spec);

/// A model that is being deployed, among those that its tenant may have: until it is in the books, or given up.
class DeployPlace {
 public:
  /// ErrorKind::denied when the tenant has as many models as it may.
  static base::Result<DeployPlace> take(Server& server, const base::ModelName& model);
  DeployPlace(DeployPlace&& other) noexcept;
  DeployPlace& operator=(DeployPlace&&) = delete;
  ~DeployPlace();

 private:
  DeployPlace(Tenants* tenants, base::ModelName model) : tenants_(tenants), model_(std::move(model)) {}
  Tenants* tenants_;  ///< nullptr: moved from
  base::ModelName model_;
};

}  // namespace thaw::gateway
