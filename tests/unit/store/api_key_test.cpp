#include "store/api_key.h"

#include <set>

#include <gtest/gtest.h>

namespace thaw::store {
namespace {

const std::string kSecret = "0123456789abcdefABCDEFxyzXYZ0189";

std::string hex(const std::string& bytes) {
  std::string text;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    text += "0123456789abcdef"[byte >> 4];
    text += "0123456789abcdef"[byte & 15];
  }
  return text;
}

TEST(ApiKey, SecretsAreRandomLettersAndDigits) {
  std::set<std::string> secrets;
  std::set<char> letters;
  for (int i = 0; i < 200; ++i) {
    const auto secret = new_key_secret();
    ASSERT_TRUE(secret.ok());
    EXPECT_EQ(secret->size(), 32U);
    secrets.insert(*secret);
    letters.insert(secret->begin(), secret->end());
  }
  EXPECT_EQ(secrets.size(), 200U);
  EXPECT_EQ(letters.size(), 62U);  // 6,400 draws: one of 62 is missing once in 10^43 runs
  EXPECT_EQ(new_salt()->size(), 16U);
  EXPECT_NE(*new_salt(), *new_salt());
}

TEST(ApiKey, IsHashedWithItsSalt) {
  EXPECT_EQ(hex(hash_secret("a", "bc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");  // FIPS 180-2, "abc"
  EXPECT_NE(hash_secret("salt1", kSecret), hash_secret("salt2", kSecret));
}

TEST(ApiKey, IsWrittenAndSplit) {
  EXPECT_EQ(format_key(base::KeyId(1), kSecret), "thaw_1_" + kSecret);
  EXPECT_EQ(format_key(base::KeyId(36), kSecret), "thaw_10_" + kSecret);
  for (const std::uint64_t id : std::initializer_list<std::uint64_t>{1, 35, 46'655, ~0ULL}) {
    const std::string key = format_key(base::KeyId(id), kSecret);
    const auto parts = split_key(key);
    ASSERT_TRUE(parts.ok()) << key;
    EXPECT_EQ(parts->id.value(), id);
    EXPECT_EQ(parts->secret, kSecret);
  }
}

TEST(ApiKey, RefusesEverythingElse) {
  for (const std::string& key : std::vector<std::string>{"",
                                                         "thaw",
                                                         "thaw_",
                                                         "thaw__",
                                                         "thaw_1",
                                                         "thaw_1_",
                                                         "thaw_1_" + kSecret + "0",
                                                         "thaw_1_" + kSecret.substr(1),
                                                         "thaw_0_" + kSecret,
                                                         "thaw_01_" + kSecret,
                                                         "thaw_A_" + kSecret,
                                                         "thaw_-1_" + kSecret,
                                                         "thaw_+1_" + kSecret,
                                                         "thaw__" + kSecret,
                                                         "thaw_zzzzzzzzzzzzzz_" + kSecret,
                                                         "Thaw_1_" + kSecret,
                                                         " thaw_1_" + kSecret,
                                                         "thaw_1_" + kSecret.substr(1) + "-",
                                                         "thaw_1_" + kSecret.substr(1) + "\n",
                                                         "thaw_1_" + kSecret.substr(1) + std::string(1, '\0'),
                                                         "thaw_1_" + std::string(1'000'000, 'a'),
                                                         "sk-1234"}) {
    const auto parts = split_key(key);
    ASSERT_FALSE(parts.ok()) << key;
    EXPECT_EQ(parts.error().message, "this is no API key; a key looks like thaw_1_ and 32 letters or digits");
    EXPECT_EQ(parts.error().kind, base::ErrorKind::denied);
  }
}

TEST(ApiKey, MatchesOnlyItsSecret) {
  StoredKey stored;
  stored.salt = "0123456789abcdef";
  stored.hash = hash_secret(stored.salt, kSecret);
  EXPECT_TRUE(secret_matches(stored, kSecret));
  EXPECT_FALSE(secret_matches(stored, kSecret.substr(1)));
  EXPECT_FALSE(secret_matches(stored, ""));
  stored.hash.pop_back();
  EXPECT_FALSE(secret_matches(stored, kSecret));
  stored.hash.clear();
  EXPECT_FALSE(secret_matches(stored, kSecret));
}

}  // namespace
}  // namespace thaw::store
