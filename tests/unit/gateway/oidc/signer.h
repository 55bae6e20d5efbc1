#pragma once

#include <string>
#include <string_view>

#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>

#include "gateway/oidc/jwt.h"

namespace thaw::gateway::oidc::test {

inline std::string base64url(std::string_view bytes) {
  constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  std::string text;
  unsigned bits = 0;
  unsigned held = 0;
  for (const char c : bytes) {
    bits = bits << 8U | static_cast<unsigned char>(c);
    for (held += 8; held >= 6; held -= 6) text += kAlphabet[bits >> (held - 6) & 63U];
  }
  if (held > 0) text += kAlphabet[bits << (6 - held) & 63U];
  return text;
}

/// An identity provider's key pair.
class Signer {
 public:
  Signer(std::string id, Algorithm algorithm, unsigned bits = 2048)
      : id_(std::move(id)),
        algorithm_(algorithm),
        key_(algorithm == Algorithm::rs256 ? EVP_RSA_gen(bits) : EVP_EC_gen("P-256")) {}
  ~Signer() { EVP_PKEY_free(key_); }
  Signer(const Signer&) = delete;
  Signer& operator=(const Signer&) = delete;

  [[nodiscard]] std::string jwk() const {
    const std::string id = R"("kid":")" + id_ + R"(")";
    if (algorithm_ == Algorithm::rs256)
      return "{" + id + R"(,"kty":"RSA","use":"sig","n":")" + base64url(number("n")) + R"(","e":")" +
             base64url(number("e")) + "\"}";
    return "{" + id + R"(,"kty":"EC","crv":"P-256","x":")" + base64url(number("qx", 32)) + R"(","y":")" +
           base64url(number("qy", 32)) + "\"}";
  }

  [[nodiscard]] std::string token(std::string_view claims) const {
    const char* const name = algorithm_ == Algorithm::rs256 ? "RS256" : "ES256";
    return token(R"({"alg":")" + std::string(name) + R"(","typ":"JWT","kid":")" + id_ + R"("})", claims);
  }
  /// With this header, signed by this key whatever the header says.
  [[nodiscard]] std::string token(std::string_view header, std::string_view claims) const {
    const std::string text = base64url(header) + "." + base64url(claims);
    return text + "." + base64url(sign(text));
  }

  [[nodiscard]] std::string public_pem_like() const { return number(algorithm_ == Algorithm::rs256 ? "n" : "qx"); }

 private:
  [[nodiscard]] std::string number(const char* name, int width = 0) const {
    BIGNUM* value = nullptr;
    EVP_PKEY_get_bn_param(key_, name, &value);
    std::string bytes(static_cast<std::size_t>(width > 0 ? width : BN_num_bytes(value)), '\0');
    BN_bn2binpad(value, reinterpret_cast<unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
    BN_free(value);
    return bytes;
  }

  [[nodiscard]] std::string sign(const std::string& text) const {
    EVP_MD_CTX* const context = EVP_MD_CTX_new();
    const auto* const data = reinterpret_cast<const unsigned char*>(text.data());
    std::size_t size = 0;
    EVP_DigestSignInit(context, nullptr, EVP_sha256(), nullptr, key_);
    EVP_DigestSign(context, nullptr, &size, data, text.size());
    std::string signature(size, '\0');
    EVP_DigestSign(context, reinterpret_cast<unsigned char*>(signature.data()), &size, data, text.size());
    EVP_MD_CTX_free(context);
    signature.resize(size);
    return algorithm_ == Algorithm::rs256 ? signature : raw(signature);
  }

  static std::string raw(const std::string& der) {
    const auto* at = reinterpret_cast<const unsigned char*>(der.data());
    ECDSA_SIG* const signature = d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(der.size()));
    std::string both(64, '\0');
    auto* const out = reinterpret_cast<unsigned char*>(both.data());
    BN_bn2binpad(ECDSA_SIG_get0_r(signature), out, 32);
    BN_bn2binpad(ECDSA_SIG_get0_s(signature), out + 32, 32);
    ECDSA_SIG_free(signature);
    return both;
  }

  std::string id_;
  Algorithm algorithm_;
  EVP_PKEY* key_;
};

inline std::string key_set(std::initializer_list<std::string> keys) {
  std::string text;
  for (const std::string& key : keys) text += (text.empty() ? "" : ",") + key;
  return R"({"keys":[)" + text + "]}";
}

}  // namespace thaw::gateway::oidc::test
