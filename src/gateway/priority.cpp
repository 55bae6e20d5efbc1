#include "gateway/priority.h"

#include <string>

#include "base/tenancy.h"
#include "spec/problems.h"

namespace thaw::gateway {

base::Result<std::optional<spec::Priority>> asked_priority(const net::Head& head) {
  const auto asked = head.find("x-thaw-priority");
  if (!asked) return std::optional<spec::Priority>{};
  for (const auto level : {spec::Priority::low, spec::Priority::normal, spec::Priority::high}) {
    if (*asked == spec::to_string(level)) return std::optional(level);
  }
  constexpr std::size_t kShown = 32;
  return base::Error{base::ErrorKind::invalid,
                     "x-thaw-priority: \"" + spec::printable(asked->substr(0, kShown)) + "\" is no priority; use low, normal or high, or leave it out"};
}

spec::Priority max_priority(const spec::TenantSpec& tenant) {
  return tenant.max_priority.value_or(tenant.name.str() == base::kDefaultTenant ? spec::Priority::high : spec::Priority::normal);
}

}  // namespace thaw::gateway
