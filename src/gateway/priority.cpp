#include "gateway/priority.h"

#include <string>

#include "base/tenancy.h"
#include "spec/problems.h"

namespace thaw::gateway {

base::Result<spec::Priority> read_priority(std::string_view text, std::string_view where) {
  for (const auto level : {spec::Priority::low, spec::Priority::normal, spec::Priority::high}) {
    if (text == spec::to_string(level)) return level;
  }
  constexpr std::size_t kShown = 32;
  return base::Error{base::ErrorKind::invalid,
                     std::string(where) + ": \"" + spec::printable(text.substr(0, kShown)) + "\" is no priority; use low, normal or high, or leave it out"};
}

base::Result<std::optional<spec::Priority>> asked_priority(const net::Head& head) {
  const auto asked = head.find("x-thaw-priority");
  if (!asked) return std::optional<spec::Priority>{};
  THAW_ASSIGN_OR_RETURN(const spec::Priority priority, read_priority(*asked, "x-thaw-priority"));
  return std::optional(priority);
}

spec::Priority max_priority(const spec::TenantSpec& tenant) {
  return tenant.max_priority.value_or(tenant.name.str() == base::kDefaultTenant ? spec::Priority::high : spec::Priority::normal);
}

}  // namespace thaw::gateway
