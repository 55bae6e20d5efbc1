#include "cli/credentials.h"

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <map>
#include <thread>

#include <gtest/gtest.h>

namespace thaw::cli {
namespace {

namespace fs = std::filesystem;

class CredentialsFile : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = fs::temp_directory_path() / "thaw-credentials-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    path_ = (directory_ / "config" / "thaw" / "client.json").string();
  }
  void TearDown() override { fs::remove_all(directory_); }

  [[nodiscard]] Environment environment(std::map<std::string, std::string> variables) const {
    variables.emplace("XDG_CONFIG_HOME", (directory_ / "config").string());
    return [variables = std::move(variables)](const char* name) -> std::optional<std::string> {
      const auto found = variables.find(name);
      if (found == variables.end()) return std::nullopt;
      return found->second;
    };
  }

  void write(const std::string& text) const {
    fs::create_directories(fs::path(path_).parent_path());
    std::ofstream(path_) << text;
  }

  static mode_t mode_of(const std::string& path) {
    struct stat status {};
    EXPECT_EQ(stat(path.c_str(), &status), 0) << path;
    return status.st_mode & 07777U;
  }

  fs::path directory_;
  std::string path_;
};

TEST_F(CredentialsFile, SavesPrivatelyAndReadsBack) {
  const Credentials saved{"http://127.0.0.1:9", "thaw_secret"};
  const mode_t old_mask = umask(0);  // the mode must not depend on the caller's umask
  const auto status = save_credentials(path_, saved);
  umask(old_mask);
  ASSERT_TRUE(status.ok()) << status.error().message;
  EXPECT_EQ(mode_of(path_), 0600U);
  EXPECT_EQ(mode_of(fs::path(path_).parent_path()), 0700U);
  const auto loaded = load_credentials(path_);
  ASSERT_TRUE(loaded.ok()) << loaded.error().message;
  EXPECT_EQ(*loaded, saved);
}

TEST_F(CredentialsFile, ReplacesAnOpenFileByAPrivateOne) {
  write("{}");
  ASSERT_EQ(chmod(path_.c_str(), 0644), 0);
  ASSERT_TRUE(save_credentials(path_, {"http://a", "k"}).ok());
  EXPECT_EQ(mode_of(path_), 0600U);
  EXPECT_EQ(std::distance(fs::directory_iterator(fs::path(path_).parent_path()), {}), 1) << "a temporary file was left";
}

TEST_F(CredentialsFile, AReaderNeverSeesAHalfWrittenFile) {
  const Credentials first{"http://first", std::string(200, '1')};
  const Credentials second{"http://second", std::string(20000, '2')};
  ASSERT_TRUE(save_credentials(path_, first).ok());
  std::atomic<bool> done{false};
  std::thread writer([&] {
    for (int i = 0; i < 100; ++i) EXPECT_TRUE(save_credentials(path_, i % 2 == 0 ? second : first).ok());
    done = true;
  });
  while (!done) {
    const auto seen = load_credentials(path_);
    EXPECT_TRUE(seen.ok() && (*seen == first || *seen == second));
  }
  writer.join();
}

TEST_F(CredentialsFile, FailsWithTheNameOfWhatCannotBeWritten) {
  std::ofstream(directory_ / "config") << "a file where a directory should be";
  const auto status = save_credentials(path_, {"http://a", "k"});
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.error().message.find("config"), std::string::npos) << status.error().message;
}

TEST_F(CredentialsFile, RefusesDamagedFilesWithTheRemedy) {
  for (const char* text :
       {"", "{", "[]", "{\"api_key\":\"k\"}", "{\"url\":7}", "{\"url\":\"http://a\",\"api_key\":7}"}) {
    write(text);
    const auto loaded = load_credentials(path_);
    ASSERT_FALSE(loaded.ok()) << text;
    EXPECT_EQ(loaded.error().kind, base::ErrorKind::invalid) << text;
    EXPECT_NE(loaded.error().message.find("THAW_URL"), std::string::npos) << loaded.error().message;
  }
}

TEST_F(CredentialsFile, FindsTheDefaultTheFileAndTheVariablesInThisOrder) {
  EXPECT_EQ(*find_credentials(environment({}), ""), (Credentials{kDefaultUrl, ""}));
  const std::string service = directory_ / "service.json";
  ASSERT_TRUE(save_credentials(service, {"http://service:1", "service-key"}).ok());
  EXPECT_EQ(*find_credentials(environment({}), service), (Credentials{"http://service:1", "service-key"}));
  ASSERT_TRUE(save_credentials(path_, {"http://file:1", "file-key"}).ok());
  EXPECT_EQ(*find_credentials(environment({})), (Credentials{"http://file:1", "file-key"}));
  EXPECT_EQ(*find_credentials(environment({{"THAW_API_KEY", "mine"}})), (Credentials{"http://file:1", "mine"}));
  EXPECT_EQ(*find_credentials(environment({{"THAW_URL", "http://file:1/"}})),
            (Credentials{"http://file:1", "file-key"}));
}

TEST_F(CredentialsFile, NeverSendsTheLocalKeyToAnotherServer) {
  ASSERT_TRUE(save_credentials(path_, {"http://file:1", "file-key"}).ok());
  EXPECT_EQ(*find_credentials(environment({{"THAW_URL", "http://elsewhere"}})), (Credentials{"http://elsewhere", ""}));
  EXPECT_EQ(*find_credentials(environment({{"THAW_URL", "http://elsewhere/"}, {"THAW_API_KEY", "k"}})),
            (Credentials{"http://elsewhere", "k"}));
}

TEST_F(CredentialsFile, ADamagedFileMattersOnlyWhenItIsNeeded) {
  write("{");
  EXPECT_FALSE(find_credentials(environment({})).ok());
  EXPECT_TRUE(find_credentials(environment({{"THAW_URL", "http://a"}, {"THAW_API_KEY", "k"}})).ok());
}

TEST_F(CredentialsFile, PathFollowsXdgThenHome) {
  const auto path = [](std::map<std::string, std::string> variables) {
    return credentials_path([variables = std::move(variables)](const char* name) -> std::optional<std::string> {
      const auto found = variables.find(name);
      if (found == variables.end()) return std::nullopt;
      return found->second;
    });
  };
  EXPECT_EQ(path({{"XDG_CONFIG_HOME", "/x"}, {"HOME", "/h"}}), "/x/thaw/client.json");
  EXPECT_EQ(path({{"XDG_CONFIG_HOME", "relative"}, {"HOME", "/h"}}), "/h/.config/thaw/client.json");
  EXPECT_EQ(path({{"HOME", "/h"}}), "/h/.config/thaw/client.json");
}

}  // namespace
}  // namespace thaw::cli
