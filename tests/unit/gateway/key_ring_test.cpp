#include "gateway/auth.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

namespace thaw::gateway {
namespace {

const std::string kSecret = "abcdefghijklmnopqrstuvwxyz012345";
const std::string kOther = "abcdefghijklmnopqrstuvwxyz012346";

store::StoredKey stored(std::uint64_t id, const std::string& secret, const std::string& tenant) {
  store::StoredKey key;
  key.id = base::KeyId(id);
  key.tenant = base::TenantName(tenant);
  key.salt = std::string(16, static_cast<char>(id));
  key.hash = store::hash_secret(key.salt, secret);
  return key;
}

class KeyRingTest : public testing::Test {
 protected:
  KeyRingTest() { ring_.set({stored(1, kSecret, "first"), stored(40, kOther, "second")}); }

  /// The tenant, or the error's code.
  std::string identify(const std::string& headers) {
    const std::string text = "GET / HTTP/1.1\r\nHost: h\r\n" + headers + "\r\n";
    net::Head head;
    net::HeadError error;
    EXPECT_EQ(net::parse_request(text, head, error), net::Parse::done) << error.message;
    caller_ = {};
    const auto refused = ring_.identify(head, caller_);
    if (!refused) return caller_.tenant.str();
    EXPECT_EQ(refused->status, 401);
    EXPECT_EQ(refused->type, "authentication_error");
    EXPECT_EQ(caller_.key, base::KeyId()) << "a refused caller is nobody";
    return refused->code;
  }
  static std::string bearer(const std::string& key) { return "Authorization: Bearer " + key + "\r\n"; }

  KeyRing ring_{false};
  Caller caller_;
};

TEST_F(KeyRingTest, AKeySaysWhoAsks) {
  EXPECT_EQ(identify(bearer(store::format_key(base::KeyId(1), kSecret))), "first");
  EXPECT_EQ(caller_.key, base::KeyId(1));
  EXPECT_EQ(identify(bearer(store::format_key(base::KeyId(40), kOther))), "second");
  EXPECT_EQ(caller_.key, base::KeyId(40));
}

TEST_F(KeyRingTest, TheSchemeIsInAnyCaseAndXApiKeyWillDo) {
  const std::string key = store::format_key(base::KeyId(1), kSecret);
  EXPECT_EQ(identify("authorization: bearer " + key + "\r\n"), "first");
  EXPECT_EQ(identify("AUTHORIZATION: BEARER " + key + "\r\n"), "first");
  EXPECT_EQ(identify("X-Api-Key: " + key + "\r\n"), "first");
}

TEST_F(KeyRingTest, WithoutAKeyNobodyComesIn) {
  EXPECT_EQ(identify(""), "missing_api_key");
  EXPECT_EQ(identify("Authorization: Bearer \r\n"), "missing_api_key");
  EXPECT_EQ(identify("Authorization: Basic dXNlcjpwYXNz\r\n"), "missing_api_key");
  EXPECT_EQ(identify("X-Api-Key:\r\n"), "missing_api_key");
}

TEST_F(KeyRingTest, AWrongAnUnknownAndAMalformedKeyGetOneAnswer) {
  const std::string key = store::format_key(base::KeyId(1), kSecret);
  for (const std::string& wrong :
       {store::format_key(base::KeyId(1), kOther), store::format_key(base::KeyId(2), kSecret),
        store::format_key(base::KeyId(40), kSecret), key.substr(0, key.size() - 1), key + "x", kSecret,
        std::string("thaw_1_"), std::string("thaw_0_") + kSecret, std::string("x"), std::string(4000, 'x')}) {
    EXPECT_EQ(identify(bearer(wrong)), "invalid_api_key") << wrong;
  }
}

TEST_F(KeyRingTest, AnEmptyRingLetsNobodyIn) {
  ring_.set({});
  EXPECT_EQ(identify(bearer(store::format_key(base::KeyId(1), kSecret))), "invalid_api_key");
  EXPECT_EQ(identify(bearer("thaw_1_x")), "invalid_api_key");
}

TEST_F(KeyRingTest, AKeyThatWasSeenBeforeIsKnownUntilTheKeysChange) {
  const std::string key = bearer(store::format_key(base::KeyId(1), kSecret));
  const std::string first = identify(key);
  EXPECT_EQ(identify(key), first);
  KeyRing moved = std::move(ring_);
  ring_ = std::move(moved);
  EXPECT_EQ(identify(key), first);
  ring_.set({});
  EXPECT_EQ(identify(key), "invalid_api_key");
  EXPECT_EQ(identify(key), "invalid_api_key") << "a key that was refused is not known";
}

TEST_F(KeyRingTest, KeysCanBeExchanged) {
  ring_.set({stored(1, kOther, "third")});
  EXPECT_EQ(identify(bearer(store::format_key(base::KeyId(1), kSecret))), "invalid_api_key");
  EXPECT_EQ(identify(bearer(store::format_key(base::KeyId(1), kOther))), "third");
}

TEST_F(KeyRingTest, AnOpenRingAsksNobody) {
  ring_ = KeyRing(true);
  EXPECT_EQ(identify(""), "default");
  EXPECT_EQ(caller_.key, base::KeyId());
  EXPECT_EQ(identify(bearer("wrong")), "default");
}

}  // namespace
}  // namespace thaw::gateway
