#include "gateway/name_claim.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/revision.h"
#include "base/tenancy.h"
#include "gateway/server.h"

namespace thaw::gateway {
namespace {

std::vector<std::string> names_of(const spec::ModelSpec& spec) {
  std::vector<std::string> names = spec.aliases;
  names.push_back(base::public_model(spec.name));
  return names;
}

}  // namespace

base::Result<NameClaim> NameClaim::take(Server& server, const spec::ModelSpec& spec) {
  const base::TenantName owner = base::tenant_of(spec.name);
  Tenant* const tenant = server.tenants().find(owner);
  if (tenant == nullptr) return base::Error{base::ErrorKind::not_found, "the tenant was removed meanwhile"};
  const std::vector<std::string> wanted = names_of(spec);
  base::Status status;
  const auto check = [&](const std::string& name, const base::ModelName& holder) {
    if (holder == spec.name || std::find(wanted.begin(), wanted.end(), name) == wanted.end()) return;
    const bool own = name == base::public_part(holder);
    status = base::Error{base::ErrorKind::conflict,
                         fmt::format("\"{}\" is {} already; a name stands for one model", name,
                                     own ? "a model" : fmt::format("an alias of model \"{}\"", base::public_part(holder)))};
  };
  for (const auto& [name, model] : server.services().controller.models()) {
    if (base::tenant_part(name) != owner.str()) continue;
    for (const std::string& other : names_of(model->spec)) check(other, base::model_of(name));
  }
  for (const auto& [name, pending] : server.services().pulls.pending()) {
    if (base::tenant_part(name) != owner.str()) continue;
    for (const std::string& other : names_of(pending.spec)) check(other, name);
  }
  for (const auto& [name, holder] : tenant->claimed) check(name, holder);
  THAW_RETURN_IF_ERROR(status);
  for (const std::string& name : wanted) tenant->claimed.emplace(name, spec.name);
  return NameClaim(server.tenants(), spec.name, wanted);
}

NameClaim::NameClaim(Tenants& tenants, base::ModelName model, std::vector<std::string> names)
    : tenants_(&tenants), model_(std::move(model)), names_(std::move(names)) {}

NameClaim::NameClaim(NameClaim&& other) noexcept
    : tenants_(std::exchange(other.tenants_, nullptr)), model_(std::move(other.model_)), names_(std::move(other.names_)) {}

NameClaim::~NameClaim() {
  if (tenants_ == nullptr) return;
  Tenant* const tenant = tenants_->find(base::tenant_of(model_));
  if (tenant == nullptr) return;
  for (const std::string& name : names_) {
    const auto [first, last] = tenant->claimed.equal_range(name);
    const auto mine = std::find_if(first, last, [&](const auto& entry) { return entry.second == model_; });
    if (mine != last) tenant->claimed.erase(mine);
  }
}

}  // namespace thaw::gateway
