#include "node/shown_paths.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "unit/node/agent_harness.h"

namespace thaw::node {
namespace {

TEST(ShownPaths, AreNeverTheServersOwnOrTheKernels) {
  const test::TempDir directory;
  const std::string& root = directory.path();
  std::filesystem::create_directories(root + "/data/logs");
  std::filesystem::create_directories(root + "/data/models");
  std::filesystem::create_directories(root + "/weights");
  std::filesystem::create_symlink(root + "/data/logs", root + "/weights/link");
  const auto allowed = [&](const std::string& path) { return check_shown_paths({path}, root + "/data", root + "/secrets").ok(); };
  for (const std::string& open : {root + "/weights", root + "/weights/a.gguf", root + "/data/models", root + "/data/models/a.gguf", root + "/database", std::string("/usr/bin"), std::string()})
    EXPECT_TRUE(allowed(open)) << open;
  for (const std::string& closed : {root, root + "/data", root + "/data/logs", root + "/data/logs/m.log", root + "/data/thaw.db", root + "/weights/link", root + "/weights/link/m.log",
                                    root + "/weights/../data/client.json", root + "/secrets/token", std::string("/"), std::string("/etc"), std::string("/etc/shadow"),
                                    std::string("/proc/self/root"), std::string("/run/thaw/x"), std::string("/run"), std::string("/dev/sda")})
    EXPECT_FALSE(allowed(closed)) << closed;
}

}  // namespace
}  // namespace thaw::node
