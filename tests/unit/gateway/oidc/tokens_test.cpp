// Tokens of an identity provider: read, verified, and what they say believed. What a forger would try stands here.
#include <gtest/gtest.h>

#include <openssl/hmac.h>
#include <boost/json/parse.hpp>

#include "gateway/oidc/claims.h"
#include "gateway/oidc/jwks.h"
#include "gateway/oidc/jwt.h"
#include "unit/gateway/oidc/signer.h"

namespace thaw::gateway::oidc {
namespace {

using test::base64url;
using test::key_set;
using test::Signer;
using Verdict = JwkSet::Verdict;

const Signer& rsa() {
  static const Signer signer("r1", Algorithm::rs256);
  return signer;
}
const Signer& ec() {
  static const Signer signer("e1", Algorithm::es256);
  return signer;
}

/// "good", "bad", "unknown"; or why it is no token.
std::string verdict(const JwkSet& keys, const std::string& token) {
  const auto jwt = parse_jwt(token);
  if (!jwt.ok()) return jwt.error().message;
  switch (keys.verify(*jwt)) {
    case Verdict::good:
      return "good";
    case Verdict::bad:
      return "bad";
    case Verdict::unknown_key:
      return "unknown";
  }
  return "";
}

class TokensTest : public testing::Test {
 protected:
  JwkSet keys_ = *JwkSet::parse(key_set({rsa().jwk(), ec().jwk()}));
};

TEST_F(TokensTest, SignaturesOfBothKindsAreBelieved) {
  EXPECT_EQ(keys_.size(), 2U);
  EXPECT_EQ(verdict(keys_, rsa().token(R"({"sub":"a"})")), "good");
  for (int i = 0; i < 20; ++i)
    EXPECT_EQ(verdict(keys_, ec().token(R"({"sub":"a"})")), "good");  // numbers with zeros in front
  EXPECT_EQ(verdict(keys_, rsa().token(R"({"alg":"RS256"})", "{}")), "good")
      << "the only key of its kind needs no name";
}

TEST_F(TokensTest, NothingOfThemMayBeChanged) {
  for (const Signer* signer : {&rsa(), &ec()}) {
    const std::string token = signer->token(R"({"sub":"a","role":"inference"})");
    for (std::size_t i = 0; i < token.size(); i += 7) {
      std::string other = token;
      other[i] = other[i] == 'A' ? 'B' : 'A';
      if (other != token) {
        EXPECT_NE(verdict(keys_, other), "good") << i;
      }
    }
    for (std::size_t cut = 1; cut < 20; ++cut) EXPECT_NE(verdict(keys_, token.substr(0, token.size() - cut)), "good");
    EXPECT_NE(verdict(keys_, token + "A"), "good");
  }
}

TEST_F(TokensTest, AnotherKeysSignatureIsNone) {
  const Signer thief("r1", Algorithm::rs256);
  EXPECT_EQ(verdict(keys_, thief.token("{}")), "bad");
  const Signer stranger("r9", Algorithm::rs256);
  EXPECT_EQ(verdict(keys_, stranger.token("{}")), "unknown");
}

TEST_F(TokensTest, AKeyIsUsedForItsOwnAlgorithmAlone) {
  EXPECT_EQ(verdict(keys_, ec().token(R"({"alg":"ES256","kid":"r1"})", "{}")), "unknown");
  EXPECT_EQ(verdict(keys_, rsa().token(R"({"alg":"ES256","kid":"e1"})", "{}")), "bad");
  EXPECT_EQ(verdict(keys_, rsa().token(R"({"alg":"RS256","kid":"e1"})", "{}")), "unknown");
}

TEST_F(TokensTest, NoneAndSharedSecretsAreRefused) {
  const std::string wanted = "the token's alg is neither RS256 nor ES256";
  for (const char* algorithm : {"none", "None", "NONE", "", "HS256", "HS512", "rs256", "PS256", "RS512", "ES384"}) {
    const std::string header = R"({"alg":")" + std::string(algorithm) + R"(","kid":"r1"})";
    EXPECT_EQ(verdict(keys_, base64url(header) + "." + base64url("{}") + "."), wanted) << algorithm;
    EXPECT_EQ(verdict(keys_, rsa().token(header, "{}")), wanted) << algorithm;
  }
  EXPECT_EQ(verdict(keys_, rsa().token(R"({"kid":"r1"})", "{}")), wanted);
  EXPECT_EQ(verdict(keys_, rsa().token(R"({"alg":["RS256"],"kid":"r1"})", "{}")), wanted);
  // The public key as a shared secret: the classic.
  const std::string text = base64url(R"({"alg":"HS256","kid":"r1"})") + "." + base64url("{}");
  const std::string secret = rsa().public_pem_like();
  unsigned char mac[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
       reinterpret_cast<const unsigned char*>(text.data()), text.size(), mac, &size);
  const std::string_view signature(reinterpret_cast<const char*>(mac), size);
  EXPECT_EQ(verdict(keys_, text + "." + base64url(signature)), wanted);
  const std::string unsigned_one = base64url(R"({"alg":"RS256","kid":"r1"})") + "." + base64url("{}");
  EXPECT_EQ(verdict(keys_, unsigned_one + "."), "the token is not signed");
  EXPECT_EQ(verdict(keys_, unsigned_one + "." + base64url(signature)), "bad");
}

TEST_F(TokensTest, SignaturesOfNoughtAreRefused) {
  // CVE-2022-21449: r = s = 0 was taken for everybody's signature.
  const std::string text = base64url(R"({"alg":"ES256","kid":"e1"})") + "." + base64url("{}");
  EXPECT_EQ(verdict(keys_, text + "." + base64url(std::string(64, '\0'))), "bad");
  EXPECT_EQ(verdict(keys_, text + "." + base64url(std::string(63, '\1'))), "bad");
}

TEST_F(TokensTest, WhatIsNoTokenIsRefused) {
  const std::string good = rsa().token("{}");
  for (const std::string& wrong :
       {std::string(), std::string("."), std::string(".."), std::string("a.b"), std::string("a.b.c.d"), good + ".x",
        "." + good, std::string(9000, 'a'), rsa().token("[]", "{}"), rsa().token("{}", "[]"),
        rsa().token(R"({"alg":"RS256","crit":["exp"]})", "{}"), rsa().token(R"({"alg":"RS256","typ":"JWE"})", "{}"),
        rsa().token(R"({"alg":"RS256"})", std::string(50, '[')),
        rsa().token(R"({"alg":"RS256"} )" + std::string("x"), "{}")})
    EXPECT_FALSE(parse_jwt(wrong).ok()) << wrong.substr(0, 100);
  EXPECT_TRUE(parse_jwt(rsa().token(R"({"alg":"RS256","typ":"at+jwt"})", "{}")).ok());
}

TEST(Base64Url, HasOneSpelling) {
  EXPECT_EQ(*decode_base64url(""), "");
  EXPECT_EQ(*decode_base64url("_-8"), "\xff\xef");
  for (const char* wrong : {"A", "AAAAA", "AB", "AAB", "AA==", "AA\n", "+/8", "A A"})
    EXPECT_FALSE(decode_base64url(wrong).ok()) << wrong;
}

TEST(KeySets, WhatIsOfNoUseIsPassedOver) {
  const auto size = [](const std::string& text) {
    const auto set = JwkSet::parse(text);
    return set.ok() ? set->size() : 0;
  };
  EXPECT_EQ(
      size(key_set({rsa().jwk(), R"({"kty":"oct","k":"AAAA"})", R"({"kty":"OKP","crv":"Ed25519","x":"AAAA"})", "7"})),
      1U);
  std::string encryption = rsa().jwk();
  encryption.replace(encryption.find("\"sig\""), 5, "\"enc\"");
  EXPECT_EQ(size(key_set({encryption})), 0U);
  EXPECT_EQ(size(key_set({Signer("small", Algorithm::rs256, 1024).jwk()})), 0U) << "too short to be believed";
  std::string off_curve = ec().jwk();
  const std::size_t y = off_curve.find("\"y\":\"") + 5;
  off_curve[y] = off_curve[y] == 'A' ? 'B' : 'A';
  EXPECT_EQ(size(key_set({off_curve})), 0U) << "a point that is not on the curve";
  for (const char* wrong : {"", "{}", "[]", R"({"keys":{}})", R"({"keys":[]})", "{\"keys\":[[[[[[[[[[[[]]]]]]]]]]]]}"})
    EXPECT_EQ(size(wrong), 0U) << wrong;
}

TEST(KeySets, ATokenWithoutANameDoesNotGetToChoose) {
  const Signer other("r2", Algorithm::rs256);
  const auto keys = JwkSet::parse(key_set({rsa().jwk(), other.jwk()}));
  EXPECT_EQ(verdict(*keys, rsa().token(R"({"alg":"RS256"})", "{}")), "bad");
  EXPECT_EQ(verdict(*keys, other.token("{}")), "good");
}

class ClaimsTest : public testing::Test {
 protected:
  ClaimsTest() {
    config_.issuer = "https://id.example.com";
    config_.audience = "thaw";
  }
  static constexpr std::int64_t kNow_s = 1'800'000'000;

  /// "tenant role" of whom they speak of; or why they are refused.
  std::string read(const std::string& claims) {
    boost::json::value value = boost::json::parse(claims);
    const auto caller = read_claims(value.get_object(), config_, kNow_s * 1000);
    if (!caller.ok()) return caller.error().message;
    return (*caller)->tenant.str() + " " + ((*caller)->platform ? "platform-" : "") + to_string((*caller)->role);
  }
  /// Good claims, with `more` in place of what they had.
  static std::string claims(const std::string& more, const std::string& without = "") {
    std::string text;
    for (const auto& [key, value] :
         std::vector<std::pair<std::string, std::string>>{{"iss", "\"https://id.example.com\""},
                                                          {"aud", "\"thaw\""},
                                                          {"sub", "\"ann\""},
                                                          {"exp", std::to_string(kNow_s + 60)},
                                                          {"tenant", "\"acme\""},
                                                          {"role", "\"inference\""}})
      if (key != without && more.find("\"" + key + "\":") == std::string::npos)
        text += (text.empty() ? "" : ",") + ("\"" + key + "\":" + value);
    return "{" + text + (more.empty() ? "" : "," + more) + "}";
  }

  spec::ServerConfig::Oidc config_;
};

TEST_F(ClaimsTest, SayWho) {
  EXPECT_EQ(read(claims("")), "acme inference");
  EXPECT_EQ(read(claims(R"("aud":["other","thaw"])")), "acme inference");
  EXPECT_EQ(read(claims(R"("role":["offline_access","deployer","uma"])")), "acme deployer");
  config_.tenant_claim = "org";
  config_.role_claim = "https://thaw/role";
  EXPECT_EQ(read(claims(R"("org":"beta","https://thaw/role":"read-only")")), "beta read-only");
}

TEST_F(ClaimsTest, AreForThisServerOrNotAtAll) {
  EXPECT_EQ(read(claims(R"("iss":"https://id.example.com/")")), "the token is of another issuer");
  EXPECT_EQ(read(claims("", "iss")), "the token is of another issuer");
  EXPECT_EQ(read(claims(R"("iss":["https://id.example.com"])")), "the token is of another issuer");
  for (const char* wrong : {R"("aud":"thaw2")", R"("aud":[])", R"("aud":{"thaw":1})", R"("aud":["thaw",1])"})
    EXPECT_EQ(read(claims(wrong)), "the token was made for another audience") << wrong;
  EXPECT_EQ(read(claims("", "aud")), "the token was made for another audience");
}

TEST_F(ClaimsTest, AreGoodForAWhile) {
  const auto at = [](const char* key, std::int64_t offset) {
    return "\"" + std::string(key) + "\":" + std::to_string(kNow_s + offset);
  };
  EXPECT_EQ(read(claims(at("exp", -59))), "acme inference") << "clocks differ";
  EXPECT_EQ(read(claims(at("exp", -60))), "the token has expired");
  EXPECT_EQ(read(claims(at("nbf", 60))), "acme inference");
  EXPECT_EQ(read(claims(at("nbf", 61))), "the token is not valid yet; do the clocks agree?");
  EXPECT_EQ(read(claims(at("iat", 61))), "the token is not valid yet; do the clocks agree?");
  EXPECT_EQ(read(claims(at("exp", 0) + ".5")), "acme inference");
  EXPECT_EQ(read(claims("", "exp")), "the token has no exp, or one that is no date");
  for (const char* wrong : {R"("exp":"1900000000")", R"("exp":-1)", R"("exp":1e300)", R"("exp":null)"})
    EXPECT_EQ(read(claims(wrong)), "the token has no exp, or one that is no date") << wrong;
  EXPECT_EQ(read(claims(R"("nbf":"soon")")), "the token's nbf is no date");
}

TEST_F(ClaimsTest, NameOneTenantAndOneRole) {
  for (const char* wrong :
       {R"("tenant":"")", R"("tenant":"a~b")", R"("tenant":"../x")", R"("tenant":["acme","beta"])", R"("tenant":7)"})
    EXPECT_EQ(read(claims(wrong)), "the token's claim \"tenant\" is no tenant's name") << wrong;
  EXPECT_EQ(read(claims("", "role")), "the token's claim \"role\" has no role of this server's");
  EXPECT_EQ(read(claims(R"("role":"root")")), "the token's claim \"role\" has no role of this server's");
  EXPECT_EQ(read(claims(R"("role":["admin","inference"])")),
            "the token's claim \"role\" has more than one role of this server's");
  for (const char* wrong : {R"("sub":"")", R"("sub":"a b")", R"("sub":"a\nb")", R"("sub":7)"})
    EXPECT_EQ(read(claims(wrong)), "the token has no sub of 1 to 128 bytes, without spaces") << wrong;
}

TEST_F(ClaimsTest, GiveThePlatformOnlyWhereThatWasSwitchedOn) {
  EXPECT_EQ(read(claims(R"("role":"platform-admin")")),
            "the token has a role of the platform, which this server takes from API keys alone");
  config_.platform = true;
  EXPECT_EQ(read(claims(R"("role":"platform-admin")")), "default platform-admin");
  EXPECT_EQ(read(claims(R"("role":"platform-read-only")", "tenant")), "default platform-read-only");
  EXPECT_EQ(read(claims(R"("role":"platform-deployer")")), "the token's claim \"role\" has no role of this server's");
}

}  // namespace
}  // namespace thaw::gateway::oidc
