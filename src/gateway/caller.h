#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/tenancy.h"
#include "spec/role.h"

namespace thaw::gateway {

class TenantAccount;

/// Who asks: found out before a byte of the body is read. Shared by the requests of one key or token; never changed, so
/// that what a request was let in with holds to its end.
struct Caller {
  base::KeyId key;      ///< 0 with --dev, and for tokens and certificates
  std::string subject;  ///< of a token: its "sub"; of a certificate: whose it is
  bool certificate = false;  ///< let in by it
  base::TenantName tenant{std::string(base::kDefaultTenant)};
  spec::Role role = spec::Role::read_only;
  bool platform = false;             ///< not its tenant's alone: may name any, and sees all
  std::vector<std::string> models;   ///< sorted; the only ones it is good for, as the tenant calls them; empty: all
  std::int64_t expires_unix_ms = 0;  ///< 0: never
  std::shared_ptr<TenantAccount> account;
  mutable std::int64_t used_unix_ms = 0;  ///< as last noted (KeyRing); loop thread only

  [[nodiscard]] bool expired(std::int64_t unix_ms) const { return expires_unix_ms != 0 && unix_ms >= expires_unix_ms; }
  /// `name`: as its tenant calls it.
  [[nodiscard]] bool may_use(std::string_view name) const {
    return models.empty() || std::binary_search(models.begin(), models.end(), name, std::less<>());
  }
};

}  // namespace thaw::gateway
