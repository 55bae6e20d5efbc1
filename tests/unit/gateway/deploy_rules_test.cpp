#include "gateway/deploy_rules.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "unit/temp_dir.h"

namespace thaw::gateway {
namespace {

namespace fs = std::filesystem;

class SourcesTest : public testing::Test {
 protected:
  SourcesTest() {
    for (const char* directory : {"own", "own/sub", "other", "own-not"}) fs::create_directory(dir_.file(directory));
    for (const char* file : {"own/a.gguf", "other/a.gguf", "own-not/a.gguf"}) std::ofstream(dir_.file(file)) << "x";
    fs::create_symlink(dir_.file("other/a.gguf"), dir_.file("own/link.gguf"));
    fs::create_symlink(dir_.file("own/a.gguf"), dir_.file("own/sub/inner.gguf"));
    fs::create_directory_symlink(dir_.file("other"), dir_.file("own/elsewhere"));
    rule_.confined = true;
    rule_.tenant = "acme";
    rule_.directories = {dir_.file("own")};
  }

  /// Where the source leads; or "denied".
  std::string source(const std::string& path) {
    spec::ModelSpec spec;
    spec.source.path = path;
    const base::Status kept = keep_to_sources(spec, rule_);
    if (kept.ok()) return spec.source.path;
    EXPECT_EQ(kept.error().kind, base::ErrorKind::denied) << kept.error().message;
    return "denied";
  }
  bool allows(const spec::ModelSpec& with) {
    spec::ModelSpec spec = with;
    spec.source.path = dir_.file("own/a.gguf");
    return keep_to_sources(spec, rule_).ok();
  }

  test::TempDir dir_;
  SourceRule rule_;
};

TEST_F(SourcesTest, WhatLiesBelowADirectoryOfTheTenantsMayBeUsed) {
  EXPECT_EQ(source(dir_.file("own/a.gguf")), dir_.file("own/a.gguf"));
  EXPECT_EQ(source(dir_.file("own")), dir_.file("own"));
  EXPECT_EQ(source(dir_.file("own/sub/inner.gguf")), dir_.file("own/a.gguf")) << "the spec keeps where a link led";
  EXPECT_EQ(source(dir_.file("own/absent")), dir_.file("own/absent")) << "that it is not there may be said";
}

TEST_F(SourcesTest, WhatLiesElsewhereMayNotWhetherItIsThereOrNot) {
  for (const char* path : {"other/a.gguf", "other/absent", "own-not/a.gguf", "own/link.gguf", "own/elsewhere/a.gguf",
                           "own/elsewhere/absent", "own/../other/a.gguf", "own/sub/../../other/a.gguf", ""})
    EXPECT_EQ(source(dir_.file(path)), "denied") << path;
  EXPECT_EQ(source("/etc/passwd"), "denied");
  EXPECT_EQ(source("/usr/bin/env"), "denied") << "the system's programs are no weights";
  rule_.directories.clear();
  EXPECT_EQ(source(dir_.file("own/a.gguf")), "denied");
}

TEST_F(SourcesTest, EnginesProgramsAndArgumentsAreFilesToo) {
  spec::ModelSpec spec;
  EXPECT_TRUE(allows(spec));
  spec.engine_path = dir_.file("other/a.gguf");
  EXPECT_FALSE(allows(spec));
  spec.engine_path = "/usr/bin/env";
  EXPECT_TRUE(allows(spec));
  spec = {};
  spec.command = {"python3", "serve.py"};
  EXPECT_TRUE(allows(spec));
  spec.command = {dir_.file("other/a.gguf")};
  EXPECT_FALSE(allows(spec));
  spec = {};
  spec.args = {"-c", "512", "--lora", dir_.file("own/a.gguf")};
  EXPECT_TRUE(allows(spec));
  spec.args = {"--lora", dir_.file("other/a.gguf")};
  EXPECT_FALSE(allows(spec));
  spec.args = {"--lora=" + dir_.file("own/link.gguf")};
  EXPECT_FALSE(allows(spec));
}

TEST_F(SourcesTest, ImagesOfOwnDirectoriesAndOfNamedRegistriesAndNoWayOut) {
  spec::ModelSpec spec;
  spec.image = "oci:" + dir_.file("own");
  EXPECT_TRUE(allows(spec));
  spec.image = "oci:" + dir_.file("other");
  EXPECT_FALSE(allows(spec));
  spec.image = "docker://registry.lan:5000/x:1";
  EXPECT_FALSE(allows(spec)) << "the disk and the credentials are the operator's";
  rule_.registries = {"registry.lan:5000"};
  EXPECT_TRUE(allows(spec));
  spec.engine_path = "/app/server";  // a path in the image
  EXPECT_TRUE(allows(spec));
  spec.image = "docker://registry.lan:5001/x:1";
  EXPECT_FALSE(allows(spec));
  spec = {};
  spec.network.egress = {"example.com:443"};
  EXPECT_FALSE(allows(spec)) << "who runs the platform opens the network";
}

TEST_F(SourcesTest, WhoIsNotConfinedMayUseEverything) {
  rule_.confined = false;
  EXPECT_EQ(source("/etc/passwd"), "/etc/passwd");
  Caller caller;
  Tenant tenant;
  tenant.spec.name = base::TenantName("acme");
  EXPECT_TRUE(source_rule(caller, &tenant).confined);
  caller.platform = true;
  EXPECT_FALSE(source_rule(caller, &tenant).confined) << "who runs the platform deploys for it";
  caller.platform = false;
  tenant.spec.name = base::TenantName("default");
  EXPECT_FALSE(source_rule(caller, &tenant).confined);
}

}  // namespace
}  // namespace thaw::gateway
