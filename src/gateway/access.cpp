#include "gateway/access.h"

#include <vector>

namespace thaw::gateway {

std::string describe(RoleSet roles) {
  std::vector<const char*> names;
  for (const spec::Role role : spec::kRoles)
    if ((roles & role_bit(role)) != 0) names.push_back(to_string(role));
  std::string text;
  for (std::size_t i = 0; i < names.size(); ++i)
    text += (i == 0 ? "" : i + 1 == names.size() ? " or " : ", ") + std::string(names[i]);
  return text;
}

}  // namespace thaw::gateway
