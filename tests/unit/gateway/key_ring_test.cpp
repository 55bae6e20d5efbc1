#include "gateway/auth.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

namespace thaw::gateway {
namespace {

const std::string kSecret = "abcdefghijklmnopqrstuvwxyz012345";
const std::string kOther = "abcdefghijklmnopqrstuvwxyz012346";

constexpr std::int64_t kNow_ms = 1'800'000'000'000;

store::StoredKey stored(std::uint64_t id, const std::string& secret, const std::string& tenant) {
  store::StoredKey key;
  key.role = spec::Role::inference;
  key.id = base::KeyId(id);
  key.tenant = base::TenantName(tenant);
  key.salt = std::string(16, static_cast<char>(id));
  key.hash = store::hash_secret(key.salt, secret);
  return key;
}

class KeyRingTest : public testing::Test {
 protected:
  KeyRingTest() { ring_.set({stored(1, kSecret, "first"), stored(40, kOther, "second")}, tenants_); }

  /// The tenant, or the error's code.
  std::string identify(const std::string& headers) {
    const std::string text = "GET / HTTP/1.1\r\nHost: h\r\n" + headers + "\r\n";
    net::Head head;
    net::HeadError error;
    EXPECT_EQ(net::parse_request(text, head, error), net::Parse::done) << error.message;
    caller_ = {};
    const auto refused = ring_.identify(head, now_ms_, caller_);
    if (!refused) return caller_->tenant.str();
    EXPECT_EQ(refused->status, 401);
    EXPECT_EQ(refused->type, "authentication_error");
    EXPECT_EQ(caller_, nullptr) << "a refused caller is nobody";
    return refused->code;
  }
  static std::string bearer(const std::string& key) { return "Authorization: Bearer " + key + "\r\n"; }

  Tenants tenants_;
  KeyRing ring_{false};
  std::shared_ptr<const Caller> caller_;
  std::int64_t now_ms_ = kNow_ms;
};

TEST_F(KeyRingTest, AKeySaysWhoAsks) {
  EXPECT_EQ(identify(bearer(store::format_key(base::KeyId(1), kSecret))), "first");
  EXPECT_EQ(caller_->key, base::KeyId(1));
  EXPECT_EQ(identify(bearer(store::format_key(base::KeyId(40), kOther))), "second");
  EXPECT_EQ(caller_->key, base::KeyId(40));
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
  ring_.set({}, tenants_);
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
  ring_.set({}, tenants_);
  EXPECT_EQ(identify(key), "invalid_api_key");
  EXPECT_EQ(identify(key), "invalid_api_key") << "a key that was refused is not known";
}

TEST_F(KeyRingTest, KeysCanBeExchanged) {
  ring_.set({stored(1, kOther, "third")}, tenants_);
  EXPECT_EQ(identify(bearer(store::format_key(base::KeyId(1), kSecret))), "invalid_api_key");
  EXPECT_EQ(identify(bearer(store::format_key(base::KeyId(1), kOther))), "third");
}

TEST_F(KeyRingTest, AnOpenRingAsksNobody) {
  ring_ = KeyRing(true);
  ring_.set({}, tenants_);
  EXPECT_EQ(identify(""), "default");
  EXPECT_EQ(caller_->key, base::KeyId());
  EXPECT_EQ(identify(bearer("wrong")), "default");
}

TEST_F(KeyRingTest, WithDevEverybodyAdministers) {
  ring_ = KeyRing(true);
  ring_.set({}, tenants_);
  identify("");
  EXPECT_EQ(caller_->role, spec::Role::admin);
  EXPECT_TRUE(caller_->platform);
}

TEST_F(KeyRingTest, AKeySaysWhatItIsGoodFor) {
  store::StoredKey key = stored(1, kSecret, "default");
  key.role = spec::Role::deployer;
  key.models = {"b", "a"};
  ring_.set({key}, tenants_);
  identify(bearer(store::format_key(base::KeyId(1), kSecret)));
  EXPECT_EQ(caller_->role, spec::Role::deployer);
  EXPECT_FALSE(caller_->platform);
  EXPECT_TRUE(caller_->may_use("a"));
  EXPECT_TRUE(caller_->may_use("b"));
  EXPECT_FALSE(caller_->may_use("c"));
  EXPECT_EQ(caller_->account, tenants_.find(base::TenantName("default"))->account);
}

TEST_F(KeyRingTest, AKeyEndsWhenItExpiresAlsoOneThatIsKnown) {
  store::StoredKey key = stored(1, kSecret, "first");
  key.expires_unix_ms = kNow_ms + 10;
  ring_.set({key}, tenants_);
  const std::string sent = bearer(store::format_key(base::KeyId(1), kSecret));
  EXPECT_EQ(identify(sent), "first");
  now_ms_ = kNow_ms + 9;
  EXPECT_EQ(identify(sent), "first");
  now_ms_ = kNow_ms + 10;
  EXPECT_EQ(identify(sent), "expired_api_key");
  EXPECT_EQ(identify(bearer(store::format_key(base::KeyId(1), kOther))), "invalid_api_key") << "only who has the secret is told so";
}

TEST_F(KeyRingTest, ARevokedKeyIsAsOneThatNeverWas) {
  store::StoredKey key = stored(1, kSecret, "first");
  key.revoked_unix_ms = kNow_ms - 1;
  ring_.set({key}, tenants_);
  EXPECT_EQ(identify(bearer(store::format_key(base::KeyId(1), kSecret))), "invalid_api_key");
  key.hash.clear();  // as the store leaves it
  key.salt.clear();
  ring_.set({key}, tenants_);
  EXPECT_EQ(identify(bearer(store::format_key(base::KeyId(1), kSecret))), "invalid_api_key");
}

TEST_F(KeyRingTest, NotesWhenAKeyWasUsedToTheMinute) {
  const std::string sent = bearer(store::format_key(base::KeyId(1), kSecret));
  identify(sent);
  identify(bearer(store::format_key(base::KeyId(40), kSecret)));  // refused
  EXPECT_EQ(ring_.take_used(), (std::map<base::KeyId, std::int64_t>{{base::KeyId(1), kNow_ms}}));
  now_ms_ += 59'999;
  identify(sent);
  EXPECT_TRUE(ring_.take_used().empty());
  now_ms_ += 1;
  identify(sent);
  EXPECT_EQ(ring_.last_used_unix_ms(base::KeyId(1)), kNow_ms + 60'000);
  ring_.set({stored(1, kSecret, "first")}, tenants_);
  EXPECT_EQ(ring_.last_used_unix_ms(base::KeyId(1)), kNow_ms + 60'000) << "what is not written yet is not lost when keys change";
}

/// Believes "a.b.c" for a minute.
class FakeDoor : public TokenDoor {
 public:
  std::shared_ptr<Caller> check(std::string_view token, std::int64_t /*unix_ms*/, std::optional<ApiError>& refused) override {
    ++checks;
    if (token != "a.b.c") {
      refused = ApiError{401, "authentication_error", "invalid_token", "no", {}, {}};
      return nullptr;
    }
    auto caller = std::make_shared<Caller>();
    caller->subject = "ann";
    caller->tenant = base::TenantName(tenant);
    caller->expires_unix_ms = kNow_ms + 60'000;
    return caller;
  }
  [[nodiscard]] std::uint64_t generation() const override { return keys; }
  int checks = 0;
  std::uint64_t keys = 1;
  std::string tenant = "default";
};

TEST_F(KeyRingTest, TokensAreCheckedOnceAndAgainWhenTheirKeysChange) {
  FakeDoor door;
  EXPECT_EQ(identify(bearer("a.b.c")), "invalid_api_key") << "nobody takes tokens";
  ring_.take_tokens(&door);
  EXPECT_EQ(identify(bearer("a.b.c")), "default");
  EXPECT_EQ(caller_->subject, "ann");
  EXPECT_EQ(identify(bearer("a.b.c")), "default");
  EXPECT_EQ(door.checks, 1);
  ++door.keys;
  EXPECT_EQ(identify(bearer("a.b.c")), "default");
  EXPECT_EQ(door.checks, 2);
  now_ms_ += 60'000;
  identify(bearer("a.b.c"));
  EXPECT_EQ(door.checks, 3) << "one that has expired is not known";
  EXPECT_EQ(identify(bearer("a.b.d")), "invalid_token");
  EXPECT_EQ(identify(bearer(store::format_key(base::KeyId(1), kSecret))), "first") << "keys are taken beside them";
  EXPECT_TRUE(ring_.take_used().contains(base::KeyId(1)));
}

TEST_F(KeyRingTest, ATokenOfATenantThatIsNotThereIsRefused) {
  FakeDoor door;
  door.tenant = "acme";
  ring_.take_tokens(&door);
  EXPECT_EQ(identify(bearer("a.b.c")), "invalid_token");
}

}  // namespace
}  // namespace thaw::gateway
