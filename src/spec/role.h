#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

namespace thaw::spec {

/// What a key or a token may be used for. The route table says which route wants which (gateway/routes.cpp).
enum class Role {
  admin,      ///< everything, its keys too
  deployer,   ///< deploys, removes, looks and asks
  inference,  ///< asks the models
  read_only,  ///< looks
};

inline constexpr std::array kRoles{Role::admin, Role::deployer, Role::inference, Role::read_only};

constexpr const char* to_string(Role role) {
  switch (role) {
    case Role::admin:
      return "admin";
    case Role::deployer:
      return "deployer";
    case Role::inference:
      return "inference";
    case Role::read_only:
      return "read-only";
  }
  return "read-only";
}

constexpr std::optional<Role> role_from(std::string_view text) {
  for (const Role role : kRoles)
    if (text == to_string(role)) return role;
  return std::nullopt;
}

}  // namespace thaw::spec
