#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "node/sandbox/criu_info.h"
#include "node/sandbox/userns_image.h"
#include "unit/node/agent_harness.h"

namespace thaw::node::test {
namespace {

namespace fs = std::filesystem;

TEST(CriuInfo, ReadsVersions) {
  EXPECT_EQ(criu_release("4.2.1"), 402);
  EXPECT_EQ(criu_release("3.17.1"), 317);
  EXPECT_EQ(criu_release("3.18"), 318);
  EXPECT_EQ(criu_release("4.0-rc1"), 400);
  EXPECT_EQ(criu_release("Version:"), 0);
  EXPECT_EQ(criu_release(""), 0);
}

TEST(CriuInfo, FindsTheReason) {
  EXPECT_EQ(
      criu_reason(
          "Error (criu/util.c:642): exited, status=1\nError (criu/vdso.c:381): vdso: Unexpected rt vDSO area bounds\n"
          "Error (criu/crtools.c:260): Could not initialize kernel features detection.\n"),
      "vdso: Unexpected rt vDSO area bounds");
  EXPECT_EQ(criu_reason("(00.162117)      1: Error (criu/files-reg.c:1790): Can't lookup mount=27\n"),
            "Can't lookup mount=27");
  EXPECT_EQ(criu_reason("one\nlibnet.so.1: cannot open shared object file\n"),
            "libnet.so.1: cannot open shared object file");
  EXPECT_EQ(criu_reason(""), "it gave no reason");
  EXPECT_EQ(criu_reason("\n\n"), "it gave no reason");
}

class CriuAt : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "criu needs root";
    for (const char* name : {"criu", "runc"})
      fs::copy(std::string(THAW_SOURCE_DIR) + "/tests/stand_in/" + name, directory_.path());
  }
  std::string script(const std::string& text) {
    const std::string path = directory_.path() + "/other/criu";
    fs::create_directory(directory_.path() + "/other");
    std::ofstream(path) << "#!/bin/sh\n" << text;
    fs::permissions(path, fs::perms(0755));
    return path;
  }
  TempDir directory_;
};

TEST_F(CriuAt, WorksWhereItsCheckPasses) {
  const auto info = examine_criu_at(directory_.path() + "/criu");
  ASSERT_TRUE(info.ok()) << info.error().message;
  EXPECT_EQ(info->version, "4.0-stand-in");
}

TEST_F(CriuAt, SaysWhatItsCheckMisses) {
  std::ofstream(directory_.path() + "/check")
      << "Error (criu/cr-check.c:712): Dumping mount namespaces is not supported.\n";
  const auto info = examine_criu_at(directory_.path() + "/criu");
  ASSERT_FALSE(info.ok());
  EXPECT_NE(info.error().message.find("Dumping mount namespaces is not supported"), std::string::npos)
      << info.error().message;
  EXPECT_NE(info.error().message.find("; install a newer criu"), std::string::npos) << info.error().message;
}

TEST_F(CriuAt, OldOnesAndOtherProgramsAreRefused) {
  EXPECT_NE(examine_criu_at(script("echo Version: 3.17.1\n")).error().message.find("older than 3.18"),
            std::string::npos);
  EXPECT_NE(examine_criu_at(script("echo no such option\n")).error().message.find("does not tell its version"),
            std::string::npos);
  EXPECT_FALSE(examine_criu_at(directory_.path() + "/nothing/criu").ok());
  EXPECT_NE(examine_criu_at(directory_.path() + "/runc").error().message.find("has to be called criu"),
            std::string::npos);
}

TEST_F(CriuAt, DoesNotWaitForEver) {
  const auto info = examine_criu_at(script("[ \"$1\" = check ] && exec sleep 60\necho Version: 4.1\n"));
  ASSERT_FALSE(info.ok());
  EXPECT_NE(info.error().message.find("not done after 5 s"), std::string::npos) << info.error().message;
}

/// As criu 4.2.1 wrote it, of a sandbox whose ids were mapped to 700065536.
const std::string kImage(
    "\x19\x43\x56\x54\x06\x49\x47\x55\x1c\x00\x00\x00"
    "\x0a\x0c\x08\x00\x10\x80\xce\xe8\xcd\x02\x18\x80\x80\x04"
    "\x12\x0c\x08\x00\x10\x80\xce\xe8\xcd\x02\x18\x80\x80\x04",
    40);

TEST(UsernsImage, GetsOtherIds) {
  EXPECT_EQ(with_uid_base(kImage, 700'065'536).value(), kImage);
  const std::string other = with_uid_base(kImage, 5).value();
  EXPECT_EQ(other.size(), kImage.size() - 8) << "numbers are as long as they have to be";
  EXPECT_EQ(with_uid_base(other, 700'065'536).value(), kImage);
  EXPECT_EQ(with_uid_base(kImage, UINT32_MAX).value().size(), kImage.size());
}

TEST(UsernsImage, NothingElseIsTaken) {
  for (std::size_t size = 0; size < kImage.size(); ++size)
    EXPECT_FALSE(with_uid_base(kImage.substr(0, size), 5).ok()) << size;
  EXPECT_FALSE(with_uid_base(kImage + "x", 5).ok());
  std::size_t taken = 0;
  for (std::size_t at = 0; at < kImage.size(); ++at) {
    std::string damaged = kImage;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x41);
    taken += with_uid_base(damaged, 5).ok() ? 1U : 0U;
  }
  EXPECT_LE(taken, 10U) << "only the outside ids may be any";
}

}  // namespace
}  // namespace thaw::node::test
