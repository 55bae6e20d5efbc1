#include "gateway/oidc/claims.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include <boost/json/array.hpp>

namespace thaw::gateway::oidc {
namespace {

namespace json = boost::json;

constexpr std::size_t kMaxSubject = 128;
constexpr std::int64_t kMsPerSecond = 1000;
constexpr double kMaxDate_s = 1e11;  // the year 5138: what is later is no date
constexpr std::string_view kPlatform = "platform-";

base::Error denied(std::string why) {
  return {base::ErrorKind::denied, std::move(why)};
}

/// A NumericDate (RFC 7519, 2) in ms.
std::optional<std::int64_t> date_of(const json::object& claims, std::string_view key) {
  const json::value* const value = claims.if_contains(key);
  if (value == nullptr || !value->is_number()) return std::nullopt;
  const double seconds = value->to_number<double>();
  if (!(seconds >= 0 && seconds <= kMaxDate_s)) return std::nullopt;
  return static_cast<std::int64_t>(std::floor(seconds * kMsPerSecond));
}

/// A claim that is one text or a list of them; nothing when it is neither.
std::optional<std::vector<std::string>> words_of(const json::object& claims, std::string_view key) {
  const json::value* const value = claims.if_contains(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) return std::vector<std::string>{std::string(value->get_string())};
  if (!value->is_array()) return std::nullopt;
  std::vector<std::string> words;
  for (const json::value& word : value->get_array()) {
    if (!word.is_string()) return std::nullopt;
    words.emplace_back(word.get_string());
  }
  return words;
}

base::Status check_dates(const json::object& claims, const spec::ServerConfig::Oidc& config, std::int64_t now_ms,
                         Caller& caller) {
  const std::int64_t skew_ms = base::duration_cast<base::Millis>(config.clock_skew).count();
  const auto expires = date_of(claims, "exp");
  if (!expires) return denied("the token has no exp, or one that is no date");
  if (now_ms >= *expires + skew_ms) return denied("the token has expired");
  for (const char* const from : {"nbf", "iat"}) {
    const auto date = date_of(claims, from);
    if (claims.contains(from) && !date) return denied(std::string("the token's ") + from + " is no date");
    if (date && now_ms + skew_ms < *date) return denied("the token is not valid yet; do the clocks agree?");
  }
  caller.expires_unix_ms = *expires + skew_ms;
  return {};
}

/// Exactly one of the roles that there are: of two, somebody would have to guess which was meant.
base::Status read_role(const json::object& claims, const spec::ServerConfig::Oidc& config, Caller& caller) {
  std::size_t found = 0;
  for (const std::string& word : words_of(claims, config.role_claim).value_or(std::vector<std::string>{})) {
    const bool platform = word.starts_with(kPlatform);
    const auto role = spec::role_from(platform ? std::string_view(word).substr(kPlatform.size()) : word);
    if (!role || (platform && *role != spec::Role::admin && *role != spec::Role::read_only)) continue;
    if (platform && !config.platform)
      return denied("the token has a role of the platform, which this server takes from API keys alone");
    caller.role = *role;
    caller.platform = platform;
    ++found;
  }
  if (found == 1) return {};
  return denied("the token's claim \"" + config.role_claim + "\" has " +
                (found == 0 ? "no role" : "more than one role") + " of this server's");
}

}  // namespace

base::Result<std::shared_ptr<Caller>> read_claims(const json::object& claims, const spec::ServerConfig::Oidc& config,
                                                  std::int64_t unix_ms) {
  auto caller = std::make_shared<Caller>();
  const json::value* const issuer = claims.if_contains("iss");
  if (issuer == nullptr || !issuer->is_string() || std::string_view(issuer->get_string()) != config.issuer)
    return denied("the token is of another issuer");
  const auto audience = words_of(claims, "aud").value_or(std::vector<std::string>{});
  if (std::find(audience.begin(), audience.end(), config.audience) == audience.end())
    return denied("the token was made for another audience");
  THAW_RETURN_IF_ERROR(check_dates(claims, config, unix_ms, *caller));
  const auto subject = words_of(claims, "sub").value_or(std::vector<std::string>{});
  const auto control = [](char c) { return static_cast<unsigned char>(c) <= ' ' || c == 0x7f; };
  if (subject.size() != 1 || subject[0].empty() || subject[0].size() > kMaxSubject ||
      std::any_of(subject[0].begin(), subject[0].end(), control))
    return denied("the token has no sub of 1 to 128 bytes, without spaces");
  caller->subject = subject[0];
  THAW_RETURN_IF_ERROR(read_role(claims, config, *caller));
  if (caller->platform) return caller;  // of the default tenant
  const auto tenant = words_of(claims, config.tenant_claim).value_or(std::vector<std::string>{});
  if (tenant.size() != 1 || !base::is_tenant_name(tenant[0]))
    return denied("the token's claim \"" + config.tenant_claim + "\" is no tenant's name");
  caller->tenant = base::TenantName(tenant[0]);
  return caller;
}

}  // namespace thaw::gateway::oidc
