#include "cli/doctor_security.h"

#include <sys/stat.h>

#include <fstream>

#include <gtest/gtest.h>

#include "unit/temp_dir.h"

namespace thaw::cli {
namespace {

using Level = node::Finding::Level;

class DoctorSecurity : public ::testing::Test {
 protected:
  DoctorSecurity() {
    config_.data_dir = directory_.file("data");
    ::mkdir(config_.data_dir.c_str(), 0711);
    ::chmod(config_.data_dir.c_str(), 0711);
    ::mkdir((config_.data_dir + "/audit").c_str(), 0700);
    put("thaw.db", 0600);
  }
  void put(const std::string& name, mode_t mode) {
    const std::string path = config_.data_dir + "/" + name;
    std::ofstream(path) << "x";
    ::chmod(path.c_str(), mode);
  }
  [[nodiscard]] Level level(const std::string& topic) const {
    Level worst = Level::ok;
    for (const auto& finding : examine_security(config_, config_path_, 1'800'000'000))
      if (finding.topic == topic) worst = std::max(worst, finding.level);
    return worst;
  }

  test::TempDir directory_;
  spec::ServerConfig config_;
  std::string config_path_;
};

TEST_F(DoctorSecurity, WhatIsRightIsSaidToBe) {
  EXPECT_EQ(level("listen"), Level::ok);
  EXPECT_EQ(level("tls"), Level::note);
  EXPECT_EQ(level("data"), Level::ok);
  EXPECT_EQ(level("sandbox"), Level::ok);
  EXPECT_EQ(level("audit"), Level::warning) << "no anchors";
}

TEST_F(DoctorSecurity, PlainHttpOnANetwork) {
  config_.listen_host = "0.0.0.0";
  EXPECT_EQ(level("listen"), Level::failure);
}

TEST_F(DoctorSecurity, FilesThatOthersCanRead) {
  put("usage.db", 0644);
  EXPECT_EQ(level("data"), Level::failure);
  ::chmod((config_.data_dir + "/usage.db").c_str(), 0600);
  EXPECT_EQ(level("data"), Level::ok);
  ::chmod(config_.data_dir.c_str(), 0755);
  EXPECT_EQ(level("data"), Level::failure);
}

TEST_F(DoctorSecurity, TlsFilesThatCannotBeUsedOrAreNotPrivate) {
  config_.tls = {true, "0.0.0.0", 1, directory_.file("no.crt"), directory_.file("tls.key"), "", {}};
  std::ofstream(config_.tls.key) << "x";
  ::chmod(config_.tls.key.c_str(), 0640);
  EXPECT_EQ(level("tls"), Level::failure);
  EXPECT_EQ(level("tls key"), Level::failure);
}

TEST_F(DoctorSecurity, AnchorsThatAreMissing) {
  put("audit/audit-0000000000000001.log", 0600);
  config_.audit.export_path = directory_.file("none");
  EXPECT_EQ(level("audit"), Level::failure);
  std::ofstream(config_.audit.export_path) << "x";
  EXPECT_EQ(level("audit"), Level::warning) << "on the same disk";
}

TEST_F(DoctorSecurity, AConfigurationThatOthersCanChangeAndNoSandbox) {
  config_path_ = directory_.file("server.yaml");
  std::ofstream(config_path_) << "x";
  ::chmod(config_path_.c_str(), 0666);
  config_.node.sandbox = spec::SandboxKind::none;
  EXPECT_EQ(level("config"), Level::failure);
  EXPECT_EQ(level("sandbox"), Level::failure);
}

}  // namespace
}  // namespace thaw::cli
