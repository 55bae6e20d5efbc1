#include "base/version.h"

#include <fstream>
#include <regex>
#include <sstream>

#include <gtest/gtest.h>

namespace thaw::cli {
namespace {

TEST(Version, IsTheProjectsVersion) {
  std::ifstream file(THAW_SOURCE_DIR "/CMakeLists.txt");
  std::ostringstream text;
  text << file.rdbuf();
  const std::string content = text.str();
  std::smatch match;
  ASSERT_TRUE(std::regex_search(content, match, std::regex(R"(project\(thaw VERSION ([0-9.]+))")));
  EXPECT_EQ(match[1], base::kVersion);
}

}  // namespace
}  // namespace thaw::cli
