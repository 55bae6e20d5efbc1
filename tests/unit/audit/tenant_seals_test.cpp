#include "audit/tenant_seals.h"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "unit/temp_dir.h"

namespace thaw::audit {
namespace {

class Seals : public ::testing::Test {
 protected:
  [[nodiscard]] TenantSeals open() const {
    auto seals = TenantSeals::open(directory_.file("seals"));
    EXPECT_TRUE(seals.ok()) << (seals.ok() ? "" : seals.error().message);
    return std::move(seals).value();
  }
  [[nodiscard]] std::size_t files() const {
    std::size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(directory_.file("seals"))) count += entry.is_regular_file() ? 1U : 0U;
    return count;
  }
  test::TempDir directory_;
};

TEST_F(Seals, WhoHasTheKeyReadsIt) {
  std::string sealed;
  {
    TenantSeals seals = open();
    sealed = *seals.seal("acme", "10.0.0.7");
    EXPECT_EQ(sealed.find("10.0.0.7"), std::string::npos);
    EXPECT_NE(sealed, *seals.seal("acme", "10.0.0.7")) << "equal texts do not look equal";
    EXPECT_EQ(seals.open_text(sealed), "10.0.0.7");
  }
  const TenantSeals again = open();
  EXPECT_EQ(again.open_text(sealed), "10.0.0.7");
  EXPECT_EQ(files(), 1U);
}

TEST_F(Seals, AShreddedKeyIsGoneForGood) {
  TenantSeals seals = open();
  const std::string mine = *seals.seal("acme", "10.0.0.7");
  const std::string others = *seals.seal("other", "10.0.0.8");
  EXPECT_TRUE(*seals.shred("acme"));
  EXPECT_FALSE(*seals.shred("acme"));
  EXPECT_FALSE(seals.open_text(mine));
  EXPECT_EQ(seals.open_text(others), "10.0.0.8");
  const std::string later = *seals.seal("acme", "10.0.0.9");
  EXPECT_EQ(seals.open_text(later), "10.0.0.9") << "the name may come again, with another key";
  const TenantSeals again = open();
  EXPECT_FALSE(again.open_text(mine));
  EXPECT_EQ(again.open_text(later), "10.0.0.9");
}

TEST_F(Seals, WhatWasChangedIsNotRead) {
  TenantSeals seals = open();
  std::string sealed = *seals.seal("acme", "10.0.0.7");
  sealed.back() = sealed.back() == '0' ? '1' : '0';
  EXPECT_FALSE(seals.open_text(sealed));
  for (const char* text : {"", "10.0.0.7", "sealed:", "sealed:0123456789abcdef:", "sealed:0123456789abcdef:zz"}) EXPECT_FALSE(seals.open_text(text)) << text;
}

TEST_F(Seals, AreTheOwnersAlone) {
  TenantSeals seals = open();
  ASSERT_TRUE(seals.seal("acme", "x").ok());
  for (const auto& entry : std::filesystem::directory_iterator(directory_.file("seals"))) {
    struct stat status {};
    ASSERT_EQ(::stat(entry.path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777U, 0600U);
  }
}

TEST_F(Seals, ALongTextStillFitsIntoARecord) {
  TenantSeals seals = open();
  const std::string sealed = *seals.seal("acme", std::string(5000, 'x'));
  EXPECT_LE(sealed.size(), 512U);
  EXPECT_EQ(seals.open_text(sealed), std::string(180, 'x'));
}

TEST_F(Seals, AFileThatIsNoKeyIsSaid) {
  { (void)open(); }
  std::ofstream(directory_.file("seals") + "/0123456789abcdef.key") << "nothing\n";
  const auto seals = TenantSeals::open(directory_.file("seals"));
  ASSERT_FALSE(seals.ok());
  EXPECT_NE(seals.error().message.find("0123456789abcdef.key"), std::string::npos);
}

}  // namespace
}  // namespace thaw::audit
