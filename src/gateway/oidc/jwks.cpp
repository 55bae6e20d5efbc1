#include "gateway/oidc/jwks.h"

#include <array>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>

namespace thaw::gateway::oidc {
namespace {

namespace json = boost::json;

constexpr int kMinRsaBits = 2048;
constexpr int kMaxRsaBits = 8192;
constexpr std::size_t kCoordinateBytes = 32;  // of P-256
constexpr std::size_t kMaxDepth = 8;

template <auto Free>
struct Deleter {
  template <typename T>
  void operator()(T* what) const {
    Free(what);
  }
};
using Number = std::unique_ptr<BIGNUM, Deleter<&BN_free>>;
using Builder = std::unique_ptr<OSSL_PARAM_BLD, Deleter<&OSSL_PARAM_BLD_free>>;
using Params = std::unique_ptr<OSSL_PARAM, Deleter<&OSSL_PARAM_free>>;
using KeyContext = std::unique_ptr<EVP_PKEY_CTX, Deleter<&EVP_PKEY_CTX_free>>;
using DigestContext = std::unique_ptr<EVP_MD_CTX, Deleter<&EVP_MD_CTX_free>>;
using EcdsaSignature = std::unique_ptr<ECDSA_SIG, Deleter<&ECDSA_SIG_free>>;

const unsigned char* bytes(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

Number number(std::string_view big_endian) {
  return Number(BN_bin2bn(bytes(big_endian), static_cast<int>(big_endian.size()), nullptr));
}

std::string text_of(const json::object& object, std::string_view key) {
  const json::value* const value = object.if_contains(key);
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string();
}

/// Null when OpenSSL does not take it. A point that is not on the curve is none.
EVP_PKEY* make(const char* type, OSSL_PARAM_BLD* builder) {
  const Params params(OSSL_PARAM_BLD_to_param(builder));
  const KeyContext context(EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr));
  EVP_PKEY* key = nullptr;
  if (!params || !context || EVP_PKEY_fromdata_init(context.get()) != 1 ||
      EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, params.get()) != 1)
    return nullptr;
  const KeyContext check(EVP_PKEY_CTX_new_from_pkey(nullptr, key, nullptr));
  if (check && EVP_PKEY_public_check(check.get()) == 1) return key;
  EVP_PKEY_free(key);
  return nullptr;
}

EVP_PKEY* rsa_key(const json::object& jwk) {
  const auto modulus = decode_base64url(text_of(jwk, "n"));
  const auto exponent = decode_base64url(text_of(jwk, "e"));
  if (!modulus.ok() || !exponent.ok() || modulus->size() > kMaxRsaBits / 8 || exponent->empty() || exponent->size() > 8)
    return nullptr;
  const Number n = number(*modulus);
  const Number e = number(*exponent);
  const Builder builder(OSSL_PARAM_BLD_new());
  if (!n || !e || !builder || BN_num_bits(n.get()) < kMinRsaBits || !BN_is_odd(e.get()) || BN_is_one(e.get()) ||
      OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, n.get()) != 1 ||
      OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, e.get()) != 1)
    return nullptr;
  return make("RSA", builder.get());
}

EVP_PKEY* p256_key(const json::object& jwk) {
  if (text_of(jwk, "crv") != "P-256") return nullptr;
  const auto x = decode_base64url(text_of(jwk, "x"));
  const auto y = decode_base64url(text_of(jwk, "y"));
  if (!x.ok() || !y.ok() || x->size() != kCoordinateBytes || y->size() != kCoordinateBytes) return nullptr;
  const std::string point = std::string(1, '\x04') + *x + *y;  // uncompressed, SEC 1
  const Builder builder(OSSL_PARAM_BLD_new());
  if (!builder || OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, "P-256", 0) != 1 ||
      OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size()) != 1)
    return nullptr;
  return make("EC", builder.get());
}

/// JWS has r and s beside each other (RFC 7518, 3.4), OpenSSL takes them in DER.
std::string der_signature(std::string_view raw) {
  if (raw.size() != 2 * kCoordinateBytes) return {};
  const EcdsaSignature signature(ECDSA_SIG_new());
  Number r = number(raw.substr(0, kCoordinateBytes));
  Number s = number(raw.substr(kCoordinateBytes));
  if (!signature || !r || !s || ECDSA_SIG_set0(signature.get(), r.get(), s.get()) != 1) return {};
  (void)r.release();
  (void)s.release();
  std::array<unsigned char, 80> der{};  // two numbers of 33 bytes at most, with their heads
  unsigned char* end = der.data();
  const int size = i2d_ECDSA_SIG(signature.get(), &end);
  return size > 0 ? std::string(der.begin(), der.begin() + size) : std::string();
}

bool signed_by(EVP_PKEY* key, const Jwt& jwt) {
  const std::string signature = jwt.algorithm == Algorithm::es256 ? der_signature(jwt.signature) : jwt.signature;
  if (signature.empty()) return false;
  const DigestContext context(EVP_MD_CTX_new());
  const bool good = context && EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr, key) == 1 &&
                    EVP_DigestVerify(context.get(), bytes(signature), signature.size(), bytes(jwt.signed_part),
                                     jwt.signed_part.size()) == 1;
  if (!good) ERR_clear_error();
  return good;
}

}  // namespace

void JwkSet::FreeKey::operator()(evp_pkey_st* key) const {
  EVP_PKEY_free(key);
}

base::Result<JwkSet> JwkSet::parse(std::string_view text) {
  const auto invalid = [](const char* why) { return base::Error{base::ErrorKind::invalid, why}; };
  if (text.size() > kMaxBytes) return invalid("the key set is too long");
  json::parse_options options;
  options.max_depth = kMaxDepth;
  boost::system::error_code error;
  const json::value value = json::parse(text, error, {}, options);
  const json::object* const root = error ? nullptr : value.if_object();
  const json::value* const keys = root == nullptr ? nullptr : root->if_contains("keys");
  if (keys == nullptr || !keys->is_array()) return invalid("it is no JSON object with a list of \"keys\"");
  if (keys->get_array().size() > kMaxKeys) return invalid("it has too many keys");
  JwkSet set;
  for (const json::value& entry : keys->get_array()) {
    const json::object* const jwk = entry.if_object();
    if (jwk == nullptr || (jwk->contains("use") && text_of(*jwk, "use") != "sig")) continue;
    const std::string type = text_of(*jwk, "kty");
    const bool rsa = type == "RSA";
    if (!rsa && type != "EC") continue;
    if (jwk->contains("alg") && text_of(*jwk, "alg") != (rsa ? "RS256" : "ES256")) continue;
    Key key;
    key.id = text_of(*jwk, "kid");
    key.algorithm = rsa ? Algorithm::rs256 : Algorithm::es256;
    key.key.reset(rsa ? rsa_key(*jwk) : p256_key(*jwk));
    if (key.key)
      set.keys_.push_back(std::move(key));
    else
      ERR_clear_error();
  }
  if (set.keys_.empty()) return invalid("it has no key for RS256 (RSA of 2048 bits and more) or ES256 (P-256)");
  return set;
}

JwkSet::Verdict JwkSet::verify(const Jwt& jwt) const {
  const Key* found = nullptr;
  std::size_t fitting = 0;
  for (const Key& key : keys_) {
    if (key.algorithm != jwt.algorithm || (!jwt.key_id.empty() && key.id != jwt.key_id)) continue;
    if (found == nullptr) found = &key;
    ++fitting;
  }
  if (found == nullptr) return Verdict::unknown_key;
  if (jwt.key_id.empty() && fitting > 1) return Verdict::bad;  // which one, the token has to say
  return signed_by(found->key.get(), jwt) ? Verdict::good : Verdict::bad;
}

}  // namespace thaw::gateway::oidc
