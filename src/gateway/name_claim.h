#pragma once

#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "gateway/tenants.h"
#include "spec/model_spec.h"

namespace thaw::gateway {

class Server;

/// The names that a model is asked under, its own and its aliases, while it is being deployed: no other model of its tenant has one of them, nor is
/// being deployed with one. Without it two deploys at once could take the same name. Loop thread only.
class NameClaim {
 public:
  /// ErrorKind::conflict when another model has one of them, by name or by alias.
  static base::Result<NameClaim> take(Server& server, const spec::ModelSpec& spec);
  NameClaim(NameClaim&& other) noexcept;
  NameClaim& operator=(NameClaim&&) = delete;
  ~NameClaim();

 private:
  NameClaim(Tenants& tenants, base::ModelName model, std::vector<std::string> names);
  Tenants* tenants_;  ///< nullptr: moved from
  base::ModelName model_;
  std::vector<std::string> names_;
};

}  // namespace thaw::gateway
