#include "node/oci/image_json.h"

#include <gtest/gtest.h>

#include "node/oci/image_record.h"

namespace thaw::node {
namespace {

std::string digest(char c) {
  return "sha256:" + std::string(64, c);
}

std::string blob(const std::string& type, char c, const std::string& size = "10") {
  return R"({"mediaType":")" + type + R"(","digest":")" + digest(c) + R"(","size":)" + size + "}";
}

std::string manifest_of(const std::string& layers) {
  return R"({"schemaVersion":2,"config":)" + blob("application/vnd.oci.image.config.v1+json", 'c') + R"(,"layers":[)" + layers + "]}";
}

constexpr const char* kGzip = "application/vnd.oci.image.layer.v1.tar+gzip";

TEST(ImageJson, ReadsAManifestAndDockersOwn) {
  for (const char* type : {kGzip, "application/vnd.docker.image.rootfs.diff.tar.gzip", "application/vnd.oci.image.layer.v1.tar"}) {
    const auto read = read_manifest(manifest_of(blob(type, 'a') + "," + blob(type, 'b', "20")), "amd64");
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_FALSE(read->is_index);
    ASSERT_EQ(read->manifest.layers.size(), 2U);
    EXPECT_EQ(read->manifest.layers[1].digest, digest('b'));
    EXPECT_EQ(read->manifest.bytes(), 40U);
  }
}

TEST(ImageJson, AnIndexLeadsToThisMachines) {
  const auto entry = [](const std::string& os, const std::string& architecture, char c) {
    return R"({"digest":")" + digest(c) + R"(","platform":{"os":")" + os + R"(","architecture":")" + architecture + R"("}})";
  };
  const std::string index =
      R"({"manifests":[)" + entry("windows", "amd64", 'a') + "," + entry("linux", "arm64", 'b') + "," + entry("linux", "amd64", 'd') + "]}";
  EXPECT_EQ(read_manifest(index, "amd64")->own_platform, digest('d'));
  EXPECT_EQ(read_manifest(index, "arm64")->own_platform, digest('b'));
  EXPECT_EQ(read_manifest(index, "riscv64").error().kind, base::ErrorKind::not_found);
  EXPECT_EQ(read_manifest(R"({"manifests":[{"digest":")" + digest('e') + R"("}]})", "amd64")->own_platform, digest('e'))
      << "one that says nothing of platforms";
}

TEST(ImageJson, RefusesWhatIsNoManifest) {
  std::string many = blob(kGzip, 'a');
  for (std::size_t i = 0; i < kMaxImageLayers; ++i) many += "," + blob(kGzip, 'a');
  const std::vector<std::string> wrong{"",
                                       "[]",
                                       "{",
                                       "{}",
                                       manifest_of(""),
                                       manifest_of("1"),
                                       manifest_of(R"({"mediaType":"x.tar","digest":"md5:11","size":1})"),
                                       manifest_of(blob(kGzip, 'a', "-1")),
                                       manifest_of(blob(kGzip, 'a', "1e9")),
                                       manifest_of(blob(kGzip, 'a', "9000000000000000000")),
                                       manifest_of(many),
                                       R"({"manifests":[{"digest":"../../x","platform":{"os":"linux","architecture":"amd64"}}]})",
                                       std::string(kMaxManifest_bytes + 1, ' ')};
  for (const std::string& text : wrong) EXPECT_FALSE(read_manifest(text, "amd64").ok()) << text.substr(0, 200);
  EXPECT_EQ(read_manifest(manifest_of(blob("application/vnd.oci.image.layer.v1.tar+zstd", 'a')), "amd64").error().kind, base::ErrorKind::unavailable);
  EXPECT_EQ(read_manifest(R"({"schemaVersion":1,"fsLayers":[]})", "amd64").error().kind, base::ErrorKind::unavailable);
}

std::string config_of(const std::string& inner) {
  return R"({"rootfs":{"type":"layers","diff_ids":[")" + digest('1') + R"("]},"config":)" + inner + "}";
}

TEST(ImageJson, ReadsAConfig) {
  const auto config = read_image_config(config_of(R"({"Entrypoint":["/bin/serve","--x"],"Cmd":null,"Env":["A=b=c","EMPTY="],"WorkingDir":"/srv"})"));
  ASSERT_TRUE(config.ok()) << config.error().message;
  EXPECT_EQ(config->diff_ids, std::vector{digest('1')});
  EXPECT_EQ(config->entrypoint, (std::vector<std::string>{"/bin/serve", "--x"}));
  EXPECT_EQ(config->env, (std::map<std::string, std::string>{{"A", "b=c"}, {"EMPTY", ""}}));
  EXPECT_EQ(config->working_dir, "/srv");
  EXPECT_EQ(read_image_config(config_of("{}"))->working_dir, "/");
}

TEST(ImageJson, RefusesAConfigThatCannotBe) {
  for (const std::string inner : {R"({"Entrypoint":"sh"})", R"({"Entrypoint":[1]})", R"({"Entrypoint":["a\u0000b"]})", R"({"Env":["=x"]})",
                                  R"({"Env":["noequals"]})", R"({"WorkingDir":"relative"})", R"({"WorkingDir":"/a\u0000b"})"})
    EXPECT_FALSE(read_image_config(config_of(inner)).ok()) << inner;
  EXPECT_FALSE(read_image_config(config_of(R"({"Cmd":[")" + std::string(200'000, 'x') + R"("]})")).ok());
  for (const std::string text : {"{}", R"({"rootfs":{"diff_ids":[]}})", R"({"rootfs":{"diff_ids":["x"]}})", R"({"rootfs":[]})"})
    EXPECT_FALSE(read_image_config(text).ok()) << text;
}

TEST(ImageRecord, IsReadBackAsItWasWritten) {
  StoredImage image{digest('f'), "docker://r.lan/x:1", {}, 123};
  image.config.diff_ids = {digest('1'), digest('2')};
  image.config.entrypoint = {"/bin/x", "a \"b\""};
  image.config.env = {{"A", "1=2"}};
  image.config.working_dir = "/w";
  const auto read = read_image_record(to_json(image));
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(read->digest, image.digest);
  EXPECT_EQ(read->name, image.name);
  EXPECT_EQ(read->fetched_unix_ms, 123);
  EXPECT_EQ(read->config.diff_ids, image.config.diff_ids);
  EXPECT_EQ(read->config.entrypoint, image.config.entrypoint);
  EXPECT_EQ(read->config.env, image.config.env);
  EXPECT_EQ(read->config.working_dir, "/w");
  for (const std::string text : {"", "{}", "null"}) EXPECT_FALSE(read_image_record(text).ok());
}

}  // namespace
}  // namespace thaw::node
