#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/tenancy.h"
#include "base/time.h"
#include "control/tenants.h"
#include "gateway/tenant_account.h"
#include "spec/tenant_spec.h"
#include "store/store.h"

namespace thaw::gateway {

/// A tenant as the gateway knows it.
struct Tenant {
  spec::TenantSpec spec;
  std::int64_t created_unix_ms = 0, updated_unix_ms = 0;
  std::shared_ptr<TenantAccount> account;
  std::multiset<base::ModelName> deploying;  ///< being stored: they count as deployed already
  std::multimap<std::string, base::ModelName> claimed;  ///< names and aliases of those (name_claim.h)
};

/// All tenants. The default one is always there, without a limit until it is given one. Loop thread only.
class Tenants {
 public:
  Tenants();

  /// As they were stored; one that cannot be read any more is an error: its quotas would be no more.
  base::Status load(const std::vector<store::StoredTenant>& stored, base::TimePoint now);

  [[nodiscard]] const Tenant* find(const base::TenantName& name) const;
  [[nodiscard]] Tenant* find(const base::TenantName& name);
  /// Adds it, or changes it; what it has used of its quotas stays used.
  void put(spec::TenantSpec spec, std::int64_t created_unix_ms, std::int64_t updated_unix_ms, base::TimePoint now);
  void erase(const base::TenantName& name) { all_.erase(name); }  ///< not the default one
  [[nodiscard]] const std::map<base::TenantName, Tenant>& all() const { return all_; }
  /// Where a tenant's requests are counted; of one that is not there (any more) a new one without limits.
  [[nodiscard]] std::shared_ptr<TenantAccount> account(const base::TenantName& name) const;

 private:
  std::map<base::TenantName, Tenant> all_;
};

/// What the scheduler has to know of it. `unix_ms`, `now`: the present moment on both clocks; a tenant's day ends at midnight UTC.
control::TenantPolicy device_policy(const spec::TenantSpec& spec, std::int64_t unix_ms, base::TimePoint now);

}  // namespace thaw::gateway
