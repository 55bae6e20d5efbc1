#pragma once

#include <string>
#include <string_view>

#include "base/ids.h"

/// Whose a model is stands in its name. Two tenants may call a model the same; below the API everything knows it by one
/// name that is unique over all of them, so that no book, path, label or message has to carry a pair:
///
///     stories         of the default tenant, which is the operator's own
///     acme~stories    of tenant acme
///
/// The mark is in neither alphabet, so that no name that a client can send is another tenant's; and it is harmless in
/// paths, URLs, labels and names of control groups.
namespace thaw::base {

inline constexpr std::string_view kDefaultTenant = "default";
inline constexpr char kTenantMark = '~';
inline constexpr std::size_t kMaxTenantName = 31;  ///< so that a whole name stays under 96 characters
inline constexpr std::size_t kMaxModelName = 63;   ///< of the part that users see

/// The name of a tenant's model, from what its users call it.
inline ModelName qualified(std::string_view tenant, std::string_view name) {
  if (tenant.empty() || tenant == kDefaultTenant) return ModelName(std::string(name));
  return ModelName(std::string(tenant).append(1, kTenantMark).append(name));
}

/// Views into `name`, but for the default tenant's.
inline std::string_view tenant_part(const ModelName& name) {
  const auto mark = name.str().find(kTenantMark);
  return mark == std::string::npos ? kDefaultTenant : std::string_view(name.str()).substr(0, mark);
}

inline TenantName tenant_of(const ModelName& name) {
  return TenantName(std::string(tenant_part(name)));
}

/// What the tenant's own users call it. A view into `name`.
inline std::string_view public_part(const ModelName& name) {
  const auto mark = name.str().find(kTenantMark);
  return mark == std::string::npos ? std::string_view(name.str()) : std::string_view(name.str()).substr(mark + 1);
}

inline std::string public_name(const ModelName& name) {
  return std::string(public_part(name));
}

/// 1 to kMaxTenantName of a-z, 0-9 and "-", a letter or digit first and last.
inline bool is_tenant_name(std::string_view name) {
  const auto plain = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  if (name.empty() || name.size() > kMaxTenantName || !plain(name.front()) || !plain(name.back())) return false;
  for (const char c : name)
    if (!plain(c) && c != '-') return false;
  return true;
}

}  // namespace thaw::base
