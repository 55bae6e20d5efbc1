#include "gateway/oidc/door.h"

#include <gtest/gtest.h>

#include <mutex>

#include "unit/gateway/oidc/signer.h"

namespace thaw::gateway::oidc {
namespace {

using test::key_set;
using test::Signer;

constexpr std::int64_t kNow_ms = 1'800'000'000'000;
constexpr const char* kClaims =
    R"({"iss":"i","aud":"a","sub":"ann","exp":1800000060,"tenant":"acme","role":"inference"})";

class DoorTest : public testing::Test {
 protected:
  DoorTest() {
    config_.issuer = "i";
    config_.audience = "a";
    config_.jwks = "/keys";
    auto made = net::Loop::create();
    EXPECT_TRUE(made.ok());
    loop_ = *std::move(made);
    door_ = std::make_unique<Door>(*loop_, config_, [this]() -> base::Result<std::string> {
      const std::lock_guard lock(mutex_);
      ++reads_;
      if (served_.empty()) return base::Error{base::ErrorKind::unavailable, "nobody answers"};
      return served_;
    });
  }

  void serve(std::string text) {
    const std::lock_guard lock(mutex_);
    served_ = std::move(text);
  }
  /// "" or the refusal's code.
  std::string check(const std::string& token) {
    std::optional<ApiError> refused;
    const auto caller = door_->check(token, kNow_ms, refused);
    EXPECT_EQ(caller == nullptr, refused.has_value());
    return refused ? refused->code : "";
  }

  spec::ServerConfig::Oidc config_;
  std::unique_ptr<net::Loop> loop_;
  std::mutex mutex_;
  std::string served_;
  int reads_ = 0;
  std::unique_ptr<Door> door_;
};

TEST_F(DoorTest, BelievesTheProvidersTokens) {
  const Signer signer("k", Algorithm::es256);
  serve(key_set({signer.jwk()}));
  ASSERT_TRUE(door_->start().ok());
  EXPECT_EQ(check(signer.token(kClaims)), "");
  EXPECT_EQ(check(signer.token(R"({"iss":"other"})")), "invalid_token");
  EXPECT_EQ(check("x.y.z"), "invalid_token");
}

TEST_F(DoorTest, WithoutKeysTokensAreToComeAgain) {
  const Signer signer("k", Algorithm::es256);
  EXPECT_FALSE(door_->start().ok());
  EXPECT_EQ(check(signer.token(kClaims)), "keys_unavailable");
  serve("no keys");
  EXPECT_FALSE(door_->start().ok());
}

TEST_F(DoorTest, NamesThatAreMadeUpDoNotHaveTheKeysReadEachTime) {
  const Signer signer("k", Algorithm::es256);
  const Signer stranger("other", Algorithm::es256);
  serve(key_set({signer.jwk()}));
  ASSERT_TRUE(door_->start().ok());
  for (int i = 0; i < 100; ++i) EXPECT_EQ(check(stranger.token(kClaims)), "invalid_token");
  EXPECT_EQ(reads_, 1) << "they were read just now";
}

TEST_F(DoorTest, OtherKeysMakeTokensBeCheckedAgain) {
  const Signer first("1", Algorithm::es256);
  const Signer second("2", Algorithm::es256);
  serve(key_set({first.jwk()}));
  ASSERT_TRUE(door_->start().ok());
  const std::uint64_t before = door_->generation();
  ASSERT_TRUE(door_->start().ok());
  EXPECT_EQ(door_->generation(), before) << "they are the same";
  serve(key_set({second.jwk()}));
  ASSERT_TRUE(door_->start().ok());
  EXPECT_NE(door_->generation(), before);
  EXPECT_EQ(check(second.token(kClaims)), "");
  EXPECT_EQ(check(first.token(kClaims)), "invalid_token");
  serve("");
  EXPECT_FALSE(door_->start().ok());
  EXPECT_EQ(check(second.token(kClaims)), "") << "the keys of before stay when they cannot be read";
}

}  // namespace
}  // namespace thaw::gateway::oidc
