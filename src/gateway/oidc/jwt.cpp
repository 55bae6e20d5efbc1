#include "gateway/oidc/jwt.h"

#include <array>
#include <cstdint>

#include <boost/json/parse.hpp>

#include "net/http.h"

namespace thaw::gateway::oidc {
namespace {

namespace json = boost::json;

constexpr std::size_t kMaxDepth = 8;
constexpr std::size_t kMaxKeyId = 256;
constexpr std::uint8_t kNoDigit = 255;

base::Error denied(const char* why) {
  return {base::ErrorKind::denied, why};
}

constexpr std::array<std::uint8_t, 256> digits() {
  std::array<std::uint8_t, 256> table{};
  table.fill(kNoDigit);
  constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  for (std::size_t i = 0; i < kAlphabet.size(); ++i)
    table[static_cast<unsigned char>(kAlphabet[i])] = static_cast<std::uint8_t>(i);
  return table;
}

base::Result<json::object> decode_object(std::string_view part) {
  THAW_ASSIGN_OR_RETURN(const std::string text, decode_base64url(part));
  json::parse_options options;
  options.max_depth = kMaxDepth;
  boost::system::error_code error;
  json::value value = json::parse(text, error, {}, options);
  if (error || !value.is_object()) return denied("a part of the token is no JSON object");
  return std::move(value.get_object());
}

/// "" when it is absent or no text.
std::string text_of(const json::object& object, std::string_view key) {
  const json::value* const value = object.if_contains(key);
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string();
}

}  // namespace

base::Result<std::string> decode_base64url(std::string_view text) {
  static constexpr std::array<std::uint8_t, 256> kDigits = digits();
  std::string bytes;
  bytes.reserve(text.size() * 3 / 4);
  std::uint32_t bits = 0;
  unsigned held = 0;
  for (const char c : text) {
    const std::uint8_t digit = kDigits[static_cast<unsigned char>(c)];
    if (digit == kNoDigit) return denied("a part of the token is no base64url");
    bits = bits << 6U | digit;
    held += 6;
    if (held >= 8) {
      held -= 8;
      bytes.push_back(static_cast<char>(bits >> held & 0xffU));
    }
  }
  if (held >= 6 || (bits & ((1U << held) - 1)) != 0)
    return denied("a part of the token is no base64url in its one spelling");
  return bytes;
}

base::Result<Jwt> parse_jwt(std::string_view token) {
  if (token.size() > kMaxTokenBytes) return denied("the token is too long");
  const std::size_t first = token.find('.');
  const std::size_t second = first == std::string_view::npos ? first : token.find('.', first + 1);
  if (second == std::string_view::npos || token.find('.', second + 1) != std::string_view::npos)
    return denied("the token has not three parts");
  THAW_ASSIGN_OR_RETURN(const json::object header, decode_object(token.substr(0, first)));
  Jwt jwt;
  const std::string algorithm = text_of(header, "alg");
  if (algorithm == "RS256")
    jwt.algorithm = Algorithm::rs256;
  else if (algorithm == "ES256")
    jwt.algorithm = Algorithm::es256;
  else
    return denied("the token's alg is neither RS256 nor ES256");
  if (header.contains("crit")) return denied("the token has an extension that must be understood (crit)");
  if (const std::string type = text_of(header, "typ");
      header.contains("typ") && !net::equals_lower(type, "jwt") && !net::equals_lower(type, "at+jwt"))
    return denied("the token's typ is neither JWT nor at+jwt");
  jwt.key_id = text_of(header, "kid");
  if (jwt.key_id.size() > kMaxKeyId) return denied("the token's kid is too long");
  THAW_ASSIGN_OR_RETURN(jwt.claims, decode_object(token.substr(first + 1, second - first - 1)));
  THAW_ASSIGN_OR_RETURN(jwt.signature, decode_base64url(token.substr(second + 1)));
  if (jwt.signature.empty()) return denied("the token is not signed");
  jwt.signed_part = token.substr(0, second);
  return jwt;
}

}  // namespace thaw::gateway::oidc
