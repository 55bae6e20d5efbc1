#pragma once

#include <cstdint>
#include <string>

#include "spec/role.h"

namespace thaw::gateway {

/// What a route is about: whose things it shows or changes.
enum class Scope : std::uint8_t {
  undeclared,  ///< nobody has thought about it: does not compile (routes.cpp)
  open,        ///< nothing that anybody may not know: no key is asked for
  own,         ///< the caller's tenant's; a caller of the platform may name another one by ?tenant=
  platform,    ///< the server's and all tenants': for callers of the platform alone
};

using RoleSet = std::uint8_t;
constexpr RoleSet role_bit(spec::Role role) {
  return static_cast<RoleSet>(1U << static_cast<unsigned>(role));
}

/// Sets of roles that routes want.
namespace roles {
inline constexpr RoleSet kAdmin = role_bit(spec::Role::admin);
inline constexpr RoleSet kDeploy = kAdmin | role_bit(spec::Role::deployer);
inline constexpr RoleSet kAsk = kDeploy | role_bit(spec::Role::inference);
inline constexpr RoleSet kLook = kDeploy | role_bit(spec::Role::read_only);
inline constexpr RoleSet kWatch = kAdmin | role_bit(spec::Role::read_only);
inline constexpr RoleSet kAny = kAsk | kLook;
}  // namespace roles

/// Who may call a route: data, so that a test can try every role on every route.
struct Rule {
  Scope scope = Scope::undeclared;
  RoleSet roles = 0;

  [[nodiscard]] constexpr bool declared() const {
    return scope == Scope::open ? roles == 0 : scope != Scope::undeclared && roles != 0;
  }
  [[nodiscard]] constexpr bool allows(spec::Role role, bool platform) const {
    return scope == Scope::open || ((roles & role_bit(role)) != 0 && (scope == Scope::own || platform));
  }
};

constexpr const char* to_string(Scope scope) {
  switch (scope) {
    case Scope::open:
      return "open";
    case Scope::own:
      return "own";
    case Scope::platform:
      return "platform";
    case Scope::undeclared:
      break;
  }
  return "undeclared";
}

/// "admin, deployer or inference"
std::string describe(RoleSet roles);

}  // namespace thaw::gateway
