#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>

#include <sys/stat.h>

#include "node/engine/engine.h"
#include "unit/node/gguf_builder.h"

namespace thaw::node {
namespace {

using testing::TemporaryDirectory;
using testing::write_file;

/// Sets a variable for the object's life.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name) {
    if (const char* old = std::getenv(name); old != nullptr) old_ = old;  // NOLINT(concurrency-mt-unsafe): tests run one by one
    ::setenv(name, value.c_str(), 1);                                     // NOLINT(concurrency-mt-unsafe)
  }
  ~Variable() {
    if (old_) ::setenv(name_, old_->c_str(), 1);  // NOLINT(concurrency-mt-unsafe)
    else ::unsetenv(name_);                       // NOLINT(concurrency-mt-unsafe)
  }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
  std::optional<std::string> old_;
};

class FindEngineTest : public ::testing::Test {
 protected:
  std::string make(const std::string& name) {
    write_file(directory_ / name, "#!/bin/sh\n");
    ::chmod((directory_ / name).c_str(), 0755);
    return directory_ / name;
  }
  base::Result<std::string> find() { return find_engine(spec::EngineKind::llama_cpp, model_, configured_); }

  TemporaryDirectory directory_;
  Variable cache_{"THAW_CACHE_DIR", directory_ / "cache"};
  Variable path_{"PATH", directory_ / "bin"};
  spec::ModelSpec model_;
  std::map<std::string, std::string> configured_;
};

TEST_F(FindEngineTest, NamesEveryPlaceAndTheRemedy) {
  const auto found = find();
  if (found.ok()) GTEST_SKIP() << "an engine is installed for the whole machine: " << *found;
  EXPECT_EQ(found.error().kind, base::ErrorKind::not_found);
  for (const char* part : {"/cache/engine", "/usr/lib/thaw", "/usr/local/lib/thaw", "PATH", "scripts/install-engine", "llama.cpp"}) {
    EXPECT_NE(found.error().message.find(part), std::string::npos) << found.error().message;
  }
}

TEST_F(FindEngineTest, TakesTheMostSpecificPlace) {
  const std::string own = make("own");
  const std::string from_config = make("configured");
  const std::string cached = make("cache/engine/3.22.1-cpu/llama-server");
  make("bin/llama-server");
  EXPECT_EQ(*find(), cached);
  configured_["llama.cpp"] = from_config;
  EXPECT_EQ(*find(), from_config);
  model_.engine_path = own;
  EXPECT_EQ(*find(), own);
}

TEST_F(FindEngineTest, WhatIsNamedMustBeThere) {
  make("cache/engine/1-cpu/llama-server");
  configured_["llama.cpp"] = directory_ / "absent";
  EXPECT_NE(find().error().message.find("engines.llama.cpp"), std::string::npos);
  write_file(directory_ / "plain", "text");
  model_.engine_path = directory_ / "plain";
  EXPECT_NE(find().error().message.find("enginePath"), std::string::npos);
}

TEST_F(FindEngineTest, TakesTheNewestInTheCacheThatFitsTheDevice) {
  const bool nvidia = std::filesystem::exists("/dev/nvidiactl");
  make("cache/engine/.work-cpu/llama-server");
  make("cache/engine/3.9.0-cpu/llama-server");
  const std::string newest_cpu = make("cache/engine/3.22.1-cpu/llama-server");
  const std::string cuda = make("cache/engine/3.10.0-cuda/llama-server");
  EXPECT_EQ(*find(), nvidia ? cuda : newest_cpu);
  std::filesystem::remove_all(directory_ / "cache/engine/3.22.1-cpu");
  std::filesystem::remove_all(directory_ / "cache/engine/3.9.0-cpu");
  EXPECT_EQ(*find(), cuda);  // it runs on a CPU, too
}

TEST_F(FindEngineTest, LooksInThePathLast) {
  const std::string in_path = make("bin/llama-server");
  const auto found = find();
  ASSERT_TRUE(found.ok());
  if (found->starts_with("/usr/")) GTEST_SKIP() << "an engine is installed for the whole machine: " << *found;
  EXPECT_EQ(*found, in_path);
}

}  // namespace
}  // namespace thaw::node
