#pragma once

#include <optional>
#include <string_view>

#include "base/result.h"
#include "net/http.h"
#include "spec/model_spec.h"
#include "spec/tenant_spec.h"

namespace thaw::gateway {

/// low, normal or high; `invalid` with the remedy for anything else. `where`: for the message, "x-thaw-priority".
base::Result<spec::Priority> read_priority(std::string_view text, std::string_view where);

/// What the request's `x-thaw-priority` asks for; absent: its model's. `invalid`: it is none of low, normal and high.
base::Result<std::optional<spec::Priority>> asked_priority(const net::Head& head);

/// The highest that a tenant's requests may ask for, and its own keys may deploy models with: as declared, else normal, so that none gets ahead of
/// others by saying so. The default tenant is the operator's own.
spec::Priority max_priority(const spec::TenantSpec& tenant);

}  // namespace thaw::gateway
