#include "gateway/deploy_rules.h"

#include <algorithm>
#include <filesystem>
#include <set>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/revision.h"
#include "gateway/priority.h"
#include "gateway/server.h"
#include "spec/image_ref.h"

namespace thaw::gateway {
namespace {

namespace fs = std::filesystem;
using base::Error;
using base::ErrorKind;

/// What every sandbox sees anyway.
constexpr const char* kSystem = "/usr";

/// Where a path leads; nothing when that cannot be said, as in a loop of links.
std::optional<fs::path> resolved(const std::string& path) {
  std::error_code error;
  fs::path where = fs::weakly_canonical(path, error);
  if (error) return std::nullopt;
  return where;
}

bool lies_in(const fs::path& path, const fs::path& directory) {
  const auto [at, rest] = std::mismatch(directory.begin(), directory.end(), path.begin(), path.end());
  (void)rest;
  return at == directory.end();
}

/// `what`: "spec.source.path".
base::Status confine(const char* what, std::string& path, const SourceRule& rule, bool system_too) {
  const auto where = resolved(path);
  const auto holds = [&](const std::string& directory) {
    const auto root = resolved(directory);
    return root && where && lies_in(*where, *root);
  };
  if (std::any_of(rule.directories.begin(), rule.directories.end(), holds) || (system_too && holds(kSystem))) {
    path = where->string();
    return {};
  }
  if (rule.directories.empty())
    return Error{ErrorKind::denied,
                 fmt::format("{}: tenant {} has no directory on this node; who runs the platform gives it one with "
                             "`thaw tenant set {} --source DIR`",
                             what, rule.tenant, rule.tenant)};
  return Error{ErrorKind::denied, fmt::format("{}: {} does not lie in what tenant {} may use: {}", what, path,
                                              rule.tenant, fmt::join(rule.directories, ", "))};
}

/// Images in a tenant's own directories, and of registries that the operator named for tenants: the disk and the credentials are the operator's.
base::Status confine_image(spec::ModelSpec& spec, const SourceRule& rule) {
  THAW_ASSIGN_OR_RETURN(spec::ImageRef ref, spec::parse_image_ref(spec.image, ""));
  if (ref.transport != spec::ImageTransport::docker) {
    THAW_RETURN_IF_ERROR(confine("spec.image", ref.path, rule, false));
    spec.image = to_string(ref);
    return {};
  }
  if (std::find(rule.registries.begin(), rule.registries.end(), ref.host) != rule.registries.end()) return {};
  return Error{ErrorKind::denied,
               fmt::format("spec.image: tenant {} may not fetch from {}; who runs the platform allows it (node.containerImages.tenantRegistries), or "
                           "deploys for it (`thaw deploy --tenant {} …`)",
                           rule.tenant, ref.host, rule.tenant)};
}

ApiError no_such_tenant(std::string_view name) {
  return {404,
          "invalid_request_error",
          "tenant_not_found",
          "there is no tenant \"" + std::string(name) + "\"",
          "metadata.tenant",
          {}};
}

}  // namespace

SourceRule source_rule(const Caller& caller, const Tenant* tenant, const std::vector<std::string>& registries) {
  if (caller.platform || tenant == nullptr || tenant->spec.name.str() == base::kDefaultTenant) return {};
  return {true, tenant->spec.name.str(), tenant->spec.sources, registries};
}

base::Status keep_to_sources(spec::ModelSpec& spec, const SourceRule& rule) {
  if (!rule.confined) return {};
  // A pull uses the operator's disk and tokens, and the server's environment is the operator's. (Files with secrets are each tenant's own.)
  if (spec.source.remote())
    return Error{ErrorKind::denied, fmt::format("spec.source: tenant {} deploys from its directories; who runs the platform pulls models for it "
                                                "(`thaw deploy --tenant {} --hf …`)",
                                                rule.tenant, rule.tenant)};
  if (std::any_of(spec.secrets.begin(), spec.secrets.end(), [](const spec::Secret& secret) { return !secret.from_env.empty(); }))
    return Error{ErrorKind::denied, fmt::format("spec.secrets: the server's own environment is not for tenant {}; use files", rule.tenant)};
  THAW_RETURN_IF_ERROR(confine("spec.source.path", spec.source.path, rule, false));
  if (!spec.network.egress.empty())
    return Error{ErrorKind::denied, fmt::format("spec.network.egress: who runs the platform opens the network to models of tenant {} "
                                                "(`thaw deploy --tenant {} …`)",
                                                rule.tenant, rule.tenant)};
  const bool in_image = !spec.image.empty();  // then these are paths in there
  if (in_image) THAW_RETURN_IF_ERROR(confine_image(spec, rule));
  if (in_image && spec.engine == spec::EngineKind::command) return {};
  if (!in_image && !spec.engine_path.empty()) THAW_RETURN_IF_ERROR(confine("spec.enginePath", spec.engine_path, rule, true));
  if (!spec.command.empty() && spec.command.front().starts_with("/"))
    THAW_RETURN_IF_ERROR(confine("spec.command[0]", spec.command.front(), rule, true));
  // Some are files that the engine is shown. Which ones, adapters know; no other absolute path is of use in a sandbox.
  for (std::string& arg : spec.args) {
    const std::size_t equals = arg.find("=/");
    if (arg.starts_with("/")) {
      THAW_RETURN_IF_ERROR(confine("spec.args", arg, rule, true));
    } else if (equals != std::string::npos) {
      std::string path = arg.substr(equals + 1);
      THAW_RETURN_IF_ERROR(confine("spec.args", path, rule, true));
      arg.replace(equals + 1, std::string::npos, path);
    }
  }
  return {};
}

std::optional<ApiError> give_to_tenant(Server& server, Exchange& exchange, spec::ModelSpec& spec) {
  const Caller& caller = exchange.caller();
  const std::string name = base::public_name(spec.name);
  const base::TenantName declared = base::tenant_of(spec.name);
  const bool declares = declared.str() != base::kDefaultTenant;
  const base::TenantName tenant = exchange.of_all_tenants() && declares ? declared : exchange.tenant();
  if ((declares && declared != tenant) || server.tenants().find(tenant) == nullptr)
    return no_such_tenant(declares ? declared.str() : tenant.str());
  spec.name = base::qualified(tenant.str(), name);
  exchange.audit_subject(tenant.str() == base::kDefaultTenant ? name : tenant.str() + "/" + name);
  if (tenant == caller.tenant && !caller.may_use(name))
    return ApiError{403,
                    "permission_error",
                    "model_forbidden",
                    fmt::format("this key is for the models {} alone", fmt::join(caller.models, ", ")),
                    {},
                    {}};
  if (const spec::Priority most = max_priority(server.tenants().find(tenant)->spec); !caller.platform && spec.priority > most)
    return ApiError{403,
                    "permission_error",
                    "denied",
                    fmt::format("spec.priority: tenant {} may ask for {} at most; who runs the platform can raise that "
                                "(`thaw tenant set {} --max-priority {}`)",
                                tenant.str(), to_string(most), tenant.str(), to_string(spec.priority)),
                    "spec.priority",
                    {}};
  return std::nullopt;
}

base::Result<DeployPlace> DeployPlace::take(Server& server, const base::ModelName& model) {
  Tenant* const tenant = server.tenants().find(base::tenant_of(model));
  if (tenant == nullptr) return Error{ErrorKind::not_found, "the tenant was removed meanwhile"};
  std::set<base::ModelName> others(tenant->deploying.begin(), tenant->deploying.end());
  for (const auto& [name, entry] : server.services().controller.models())
    if (base::tenant_part(name) == tenant->spec.name.str()) others.insert(base::model_of(name));
  for (const auto& [name, pending] : server.services().pulls.pending())
    if (base::tenant_part(name) == tenant->spec.name.str()) others.insert(name);
  others.erase(model);
  if (const auto most = tenant->spec.quotas.models; most && others.size() >= *most)
    return Error{ErrorKind::denied,
                 fmt::format("tenant {} has {} models, which is its quota (models); remove one first",
                             tenant->spec.name.str(), others.size())};
  tenant->deploying.insert(model);
  return DeployPlace(&server.tenants(), model);
}

DeployPlace::DeployPlace(DeployPlace&& other) noexcept
    : tenants_(std::exchange(other.tenants_, nullptr)), model_(std::move(other.model_)) {}

DeployPlace::~DeployPlace() {
  if (tenants_ == nullptr) return;
  if (Tenant* const tenant = tenants_->find(base::tenant_of(model_))) {
    const auto found = tenant->deploying.find(model_);
    if (found != tenant->deploying.end()) tenant->deploying.erase(found);
  }
}

}  // namespace thaw::gateway
