#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "gateway/oidc/jwt.h"

struct evp_pkey_st;

namespace thaw::gateway::oidc {

/// A provider's public keys (JWK set, RFC 7517): RSA of 2048 to 8192 bits for RS256, P-256 for ES256. What is for
/// something else is passed over.
class JwkSet {
 public:
  static constexpr std::size_t kMaxBytes = 1U << 20U;
  static constexpr std::size_t kMaxKeys = 64;

  /// ErrorKind::invalid for what is no set, or has no key that is of use.
  static base::Result<JwkSet> parse(std::string_view json);

  /// Whether one of the keys made the token's signature: the one that it names; without a name, the only one of its
  /// kind. A key is used for its own algorithm alone.
  enum class Verdict { good, bad, unknown_key };
  [[nodiscard]] Verdict verify(const Jwt& jwt) const;
  [[nodiscard]] std::size_t size() const { return keys_.size(); }

 private:
  struct FreeKey {
    void operator()(evp_pkey_st* key) const;
  };
  struct Key {
    std::string id;
    Algorithm algorithm = Algorithm::rs256;
    std::unique_ptr<evp_pkey_st, FreeKey> key;
  };
  std::vector<Key> keys_;
};

}  // namespace thaw::gateway::oidc
