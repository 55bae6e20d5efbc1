#include <sys/stat.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "node/secrets.h"
#include "unit/node/agent_harness.h"

namespace thaw::node {
namespace {

const base::TenantName kOwn("default");
const base::TenantName kTenant("team-a");

class Secrets : public ::testing::Test {
 protected:
  Secrets() {
    std::filesystem::create_directories(temp_.path() + "/in/team-a");
    std::ofstream(temp_.path() + "/in/token") << "abc\n";
    std::ofstream(temp_.path() + "/in/team-a/token") << "theirs";
    std::ofstream(temp_.path() + "/outside") << "no";
  }
  base::Result<std::vector<SecretValue>> read(spec::Secret secret, const base::TenantName& tenant = kOwn) const {
    spec::ModelSpec model;
    model.secrets.push_back(std::move(secret));
    return read_secrets(model, tenant, temp_.path() + "/in");
  }
  test::TempDir temp_;
};

TEST_F(Secrets, AreFilesOfTheNodesDirectory) {
  const auto values = read({"hf", "token", ""});
  ASSERT_TRUE(values.ok()) << values.error().message;
  EXPECT_EQ(values->at(0).name, "hf");
  EXPECT_EQ(values->at(0).value, "abc\n");
  EXPECT_EQ(read({"hf", "token", ""}, kTenant)->at(0).value, "theirs") << "a tenant's in a directory of its own";
  const auto none = read({"hf", "absent", ""});
  ASSERT_FALSE(none.ok());
  EXPECT_NE(none.error().message.find("put it into the file"), std::string::npos);
}

TEST_F(Secrets, AreNotReadThroughLinksThatLeadOut) {
  std::filesystem::create_symlink(temp_.path() + "/outside", temp_.path() + "/in/absolute");
  std::filesystem::create_symlink("../outside", temp_.path() + "/in/relative");
  std::filesystem::create_symlink("../token", temp_.path() + "/in/team-a/others");
  std::filesystem::create_symlink("token", temp_.path() + "/in/link");
  EXPECT_FALSE(read({"s", "absolute", ""}).ok());
  EXPECT_FALSE(read({"s", "relative", ""}).ok());
  EXPECT_FALSE(read({"s", "others", ""}, kTenant).ok());
  EXPECT_TRUE(read({"s", "link", ""}).ok()) << "within, as Kubernetes mounts them";
  EXPECT_FALSE(read({"s", "team-a", ""}).ok()) << "a directory";
}

TEST_F(Secrets, OfVariablesAreTheOperatorsAlone) {
  ::setenv("THAW_SECRET_TEST_TOKEN", "xyz", 1);
  EXPECT_EQ(read({"s", "", "TEST_TOKEN"})->at(0).value, "xyz");
  EXPECT_FALSE(read({"s", "", "HOME"}).ok()) << "only what begins with THAW_SECRET_";
  const auto tenants = read({"s", "", "TEST_TOKEN"}, kTenant);
  ASSERT_FALSE(tenants.ok());
  EXPECT_EQ(tenants.error().kind, base::ErrorKind::denied);
  ::unsetenv("THAW_SECRET_TEST_TOKEN");
}

TEST_F(Secrets, AreBounded) {
  std::ofstream(temp_.path() + "/in/huge") << std::string(kMaxSecret_bytes + 1, 'x');
  EXPECT_FALSE(read({"s", "huge", ""}).ok());
}

TEST_F(Secrets, AreTheEnginesToReadAndNobodysToWrite) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  const std::string place = temp_.path() + "/out";
  ASSERT_TRUE(write_secrets(place, {{"hf", "abc"}}, 99'000).ok());
  struct stat info {};
  ASSERT_EQ(::stat((place + "/hf").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777U, 0400U);
  EXPECT_EQ(info.st_uid, 99'000U);
  ASSERT_EQ(::stat(place.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777U, 0500U);
}

}  // namespace
}  // namespace thaw::node
