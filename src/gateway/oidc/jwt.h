#pragma once

#include <string>
#include <string_view>

#include <boost/json/object.hpp>

#include "base/result.h"

namespace thaw::gateway::oidc {

/// The signatures that are believed. There is no "none" here and none with a shared secret: whoever asks for one is
/// refused before a key is looked at, so that a public key can never be taken for a secret (RFC 8725, 3.1 and 3.2).
enum class Algorithm { rs256, es256 };

/// A JSON Web Token (RFC 7519) as a JWS in compact form (RFC 7515, 7.1), read but not believed.
struct Jwt {
  Algorithm algorithm = Algorithm::rs256;
  std::string key_id;  ///< "kid"; may be empty
  boost::json::object claims;
  std::string_view signed_part;  ///< views into what was parsed
  std::string signature;
};

constexpr std::size_t kMaxTokenBytes = 8 * 1024;

/// ErrorKind::denied, with words for the server's own log: a stranger is told no more than that it is not valid.
/// Bounded in size and depth; base64url in its one spelling only; "crit" and what is no "JWT" or "at+jwt" are refused.
base::Result<Jwt> parse_jwt(std::string_view token);

/// RFC 4648, 5: without padding, with no stray bits at the end.
base::Result<std::string> decode_base64url(std::string_view text);

}  // namespace thaw::gateway::oidc
