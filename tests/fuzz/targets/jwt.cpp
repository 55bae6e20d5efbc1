// A token and a key set of strangers, with the claims read as if the signature had been good. First byte: which.
#include <string>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "fuzz/check.h"
#include "fuzz/memory_file.h"
#include "gateway/oidc/claims.h"
#include "gateway/oidc/jwks.h"
#include "gateway/oidc/jwt.h"

namespace {

using namespace thaw::gateway::oidc;

constexpr std::int64_t kNow_ms = 1'800'000'000'000;

const JwkSet& keys() {
  static const JwkSet set = *JwkSet::parse(
      R"({"keys":[{"kty":"EC","crv":"P-256","kid":"e","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]})");
  return set;
}

thaw::spec::ServerConfig::Oidc config() {
  thaw::spec::ServerConfig::Oidc oidc;
  oidc.issuer = "i";
  oidc.audience = "a";
  return oidc;
}

void check_token(std::string_view text) {
  const auto jwt = parse_jwt(text);
  if (!jwt.ok()) {
    FUZZ_CHECK(!jwt.error().message.empty());
    return;
  }
  FUZZ_CHECK(text.size() <= kMaxTokenBytes && !jwt->signature.empty() && text.starts_with(jwt->signed_part));
  FUZZ_CHECK(keys().verify(*jwt) != JwkSet::Verdict::good);  // nobody here has the private key
  (void)read_claims(jwt->claims, config(), kNow_ms);
}

void check_claims(std::string_view text) {
  boost::system::error_code error;
  const auto value = boost::json::parse(text, error);
  if (error || !value.is_object()) return;
  const auto caller = read_claims(value.get_object(), config(), kNow_ms);
  if (!caller.ok()) return;
  FUZZ_CHECK(thaw::base::is_tenant_name((*caller)->tenant.str()) && !(*caller)->platform &&
             !(*caller)->subject.empty());
  FUZZ_CHECK(!(*caller)->expired(kNow_ms));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text = thaw::fuzz::text_of(data + 1, size - 1);
  switch (data[0] % 3) {
    case 0:
      check_token(text);
      break;
    case 1:
      check_claims(text);
      break;
    default:
      if (const auto set = JwkSet::parse(text); set.ok())
        FUZZ_CHECK(set->size() > 0 && set->size() <= JwkSet::kMaxKeys);
  }
  return 0;
}
