#include "audit/signing_key.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "audit/record.h"
#include "unit/audit/files.h"

namespace thaw::audit {
namespace {

TEST(AuditSigningKey, IsMadeOnceAndReadByItsOwnerOnly) {
  TempDir dir;
  const auto made = SigningKey::open_or_make(dir.path());
  ASSERT_TRUE(made.ok()) << made.error().message;
  EXPECT_TRUE(made->made());
  struct stat status {};
  ASSERT_EQ(stat(dir.file("signing.key").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
  const auto again = SigningKey::open_or_make(dir.path());
  ASSERT_TRUE(again.ok()) << again.error().message;
  EXPECT_FALSE(again->made());
  EXPECT_EQ(again->public_hex(), made->public_hex());
  const auto published = read_public_key(dir.file("signing.pub"));
  ASSERT_TRUE(published.ok()) << published.error().message;
  EXPECT_EQ(*published, made->public_hex());
}

TEST(AuditSigningKey, ADamagedOneIsSaidNotReplaced) {
  TempDir dir;
  write_file(dir.file("signing.key"), "no key");
  const auto opened = SigningKey::open_or_make(dir.path());
  ASSERT_FALSE(opened.ok());
  EXPECT_NE(opened.error().message.find("signing.key"), std::string::npos);
  EXPECT_EQ(read_file(dir.file("signing.key")), "no key");
}

TEST(AuditSigningKey, ASignatureHoldsForWhatWasSignedOnly) {
  TempDir dir;
  const auto key = SigningKey::open_or_make(dir.path());
  ASSERT_TRUE(key.ok());
  const auto head = key->sign(12, sha256_hex("x"), 1'764'100'399'123);
  ASSERT_TRUE(head.ok());
  EXPECT_TRUE(signature_holds(*head));
  const auto read = decode_head(encode_head(*head));
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(*read, *head);
  Head other = *head;
  other.seq = 11;
  EXPECT_FALSE(signature_holds(other));
  other = *head;
  other.hash = sha256_hex("y");
  EXPECT_FALSE(signature_holds(other));
  other = *head;
  other.unix_ms += 1;
  EXPECT_FALSE(signature_holds(other));
  other = *head;
  other.signature[0] = other.signature[0] == '0' ? '1' : '0';
  EXPECT_FALSE(signature_holds(other));
  TempDir elsewhere;
  other = *head;
  other.key = SigningKey::open_or_make(elsewhere.path())->public_hex();
  EXPECT_FALSE(signature_holds(other));
}

TEST(AuditHead, IsOneLineAndNothingElse) {
  TempDir dir;
  const std::string line = encode_head(*SigningKey::open_or_make(dir.path())->sign(1, sha256_hex(""), 0));
  for (std::size_t i = 0; i < line.size(); ++i) EXPECT_FALSE(decode_head(line.substr(0, i)).ok()) << i;
  EXPECT_FALSE(decode_head(line + "\n").ok());
  EXPECT_FALSE(decode_head("{}").ok());
}

}  // namespace
}  // namespace thaw::audit
