#include "gateway/tenants.h"

#include <utility>

#include "gateway/priority.h"

namespace thaw::gateway {

Tenants::Tenants() {
  spec::TenantSpec spec;
  spec.name = base::TenantName(std::string(base::kDefaultTenant));
  put(std::move(spec), 0, 0, {});
}

base::Status Tenants::load(const std::vector<store::StoredTenant>& stored, base::TimePoint now) {
  for (const store::StoredTenant& tenant : stored) {
    THAW_ASSIGN_OR_RETURN(spec::TenantSpec spec,
                          spec::parse_tenant(tenant.spec_json, "store:tenant " + tenant.name.str()));
    put(std::move(spec), tenant.created_unix_ms, tenant.updated_unix_ms, now);
  }
  return {};
}

const Tenant* Tenants::find(const base::TenantName& name) const {
  const auto found = all_.find(name);
  return found == all_.end() ? nullptr : &found->second;
}

Tenant* Tenants::find(const base::TenantName& name) {
  const auto found = all_.find(name);
  return found == all_.end() ? nullptr : &found->second;
}

void Tenants::put(spec::TenantSpec spec, std::int64_t created_unix_ms, std::int64_t updated_unix_ms,
                  base::TimePoint now) {
  Tenant& tenant = all_[spec.name];
  if (!tenant.account) tenant.account = std::make_shared<TenantAccount>(spec.name);
  tenant.account->set(spec.quotas, now);
  tenant.spec = std::move(spec);
  tenant.created_unix_ms = created_unix_ms;
  tenant.updated_unix_ms = updated_unix_ms;
}

std::shared_ptr<TenantAccount> Tenants::account(const base::TenantName& name) const {
  const Tenant* const tenant = find(name);
  return tenant != nullptr ? tenant->account : std::make_shared<TenantAccount>(name);
}

control::TenantPolicy device_policy(const spec::TenantSpec& spec, std::int64_t unix_ms, base::TimePoint now) {
  constexpr std::int64_t kDay_ms = 86'400'000;
  control::TenantPolicy policy;
  policy.tenant = spec.name;
  policy.weight = spec.weight;
  policy.max_devices = spec.quotas.devices;
  if (const auto seconds = spec.quotas.device_seconds_per_day) policy.max_device_seconds_per_day = static_cast<double>(*seconds);
  policy.max_image_bytes = spec.quotas.disk_bytes;
  policy.max_priority = max_priority(spec);
  policy.day_ends = now + base::Millis(kDay_ms - unix_ms % kDay_ms);
  return policy;
}

}  // namespace thaw::gateway
