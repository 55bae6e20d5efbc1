#include "cli/deploy_spec.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

namespace thaw::cli {
namespace {

namespace fs = std::filesystem;

TEST(ModelName, ComesFromTheFilesName) {
  EXPECT_EQ(model_name_from_path("stories260K.gguf"), "stories260k");
  EXPECT_EQ(model_name_from_path("/models/Llama 3.2_Q4.GGUF"), "llama-3.2_q4");
  EXPECT_EQ(model_name_from_path("./-.x(1).gguf"), "x-1");
  EXPECT_EQ(model_name_from_path("no-suffix"), "no-suffix");
  EXPECT_EQ(model_name_from_path("ü.gguf"), "model");
  EXPECT_EQ(model_name_from_path(".gguf"), "model");
  EXPECT_EQ(model_name_from_path(std::string(62, 'a') + "-b.gguf"), std::string(62, 'a'));
}

class DeploySpec : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = fs::temp_directory_path() / "thaw-deploy-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }
  void TearDown() override { fs::remove_all(directory_); }

  [[nodiscard]] std::string write(const std::string& name, const std::string& text) const {
    const std::string path = (directory_ / name).string();
    std::ofstream(path) << text;
    return path;
  }

  fs::path directory_;
};

constexpr const char* kYaml = R"(apiVersion: thaw/v1
kind: Model
metadata: {name: stories}
spec:
  source: {path: ./weights.gguf}
  engine: llama.cpp
  args: ["-c", "512", "--verbose"]
  scaling: {maxReplicas: 2}
)";

TEST_F(DeploySpec, HasTheAliasesOfItsFileAndTheFlags) {
  DeployFlags flags;
  flags.path = write("a.yaml", std::string(kYaml) + "  aliases: [gpt-4o]\n");
  flags.aliases = {"claude", "gpt-4o"};
  const auto spec = make_spec(flags);
  ASSERT_TRUE(spec.ok()) << spec.error().message;
  EXPECT_EQ(spec->aliases, (std::vector<std::string>{"gpt-4o", "claude"}));
  flags.aliases = {"stories"};
  EXPECT_FALSE(make_spec(flags).ok()) << "its own name";
}

TEST_F(DeploySpec, IsMadeOfAHubsOrAnUrlsModel) {
  DeployFlags flags;
  flags.hf = "hf:Org/Tiny-GGUF:Q4_K_M";
  auto spec = make_spec(flags);
  ASSERT_TRUE(spec.ok()) << spec.error().message;
  EXPECT_EQ(spec->name.str(), "tiny-gguf");
  EXPECT_EQ(spec->source.hf, "Org/Tiny-GGUF:Q4_K_M");
  flags.path = "llama";
  flags.engine = "vllm";
  spec = make_spec(flags);
  ASSERT_TRUE(spec.ok()) << spec.error().message;
  EXPECT_EQ(spec->name.str(), "llama");
  EXPECT_EQ(spec->engine, spec::EngineKind::vllm);
  flags = {};
  flags.url = "https://h/d/My%20Model-00001-of-00002.gguf";
  spec = make_spec(flags);
  ASSERT_TRUE(spec.ok()) << spec.error().message;
  EXPECT_EQ(spec->name.str(), "my-model");
  flags.hf = "o/r";
  EXPECT_FALSE(make_spec(flags).ok());
  flags = {};
  EXPECT_FALSE(make_spec(flags).ok());
  flags.hf = "o/r";
  flags.sha256 = std::string(64, 'a');
  EXPECT_FALSE(make_spec(flags).ok());
}

TEST_F(DeploySpec, IsMadeFromAGgufFile) {
  DeployFlags flags;
  flags.path = write("Tiny Model.gguf", "GGUF and more");
  const auto spec = make_spec(flags);
  ASSERT_TRUE(spec.ok()) << spec.error().message;
  EXPECT_EQ(spec->name.str(), "tiny-model");
  EXPECT_EQ(spec->source.path, flags.path);
  EXPECT_FALSE(spec->resources.device_memory_bytes.has_value());
  EXPECT_EQ(spec->scaling.max_replicas, 1U);
}

TEST_F(DeploySpec, FlagsWinOverTheFile) {
  DeployFlags flags;
  flags.path = write("model.yaml", kYaml);
  flags.name = "mine";
  flags.device = "cuda";
  flags.devices = 4;
  flags.priority = "high";
  flags.device_memory = "64MiB";
  flags.min_replicas = 1;
  flags.max_replicas = 3;
  flags.concurrency = 8;
  flags.idle_timeout = "30s";
  flags.standby = "never";
  flags.context = 1024;
  const auto spec = make_spec(flags);
  ASSERT_TRUE(spec.ok()) << spec.error().message;
  EXPECT_EQ(spec->name.str(), "mine");
  EXPECT_EQ(spec->source.path, (directory_ / "weights.gguf").string());
  EXPECT_EQ(spec->resources.device, spec::DeviceKind::cuda);
  EXPECT_EQ(spec->resources.devices, 4U);
  EXPECT_EQ(spec->priority, spec::Priority::high);
  EXPECT_EQ(spec->resources.device_memory_bytes, 64ULL << 20);
  EXPECT_EQ(spec->scaling.min_replicas, 1U);
  EXPECT_EQ(spec->scaling.max_replicas, 3U);
  EXPECT_EQ(spec->scaling.target_concurrency, 8U);
  EXPECT_EQ(spec->scaling.idle_timeout, base::Seconds(30));
  EXPECT_EQ(spec->standby.mode, spec::Mode::never);
  EXPECT_EQ(spec->args, (std::vector<std::string>{"--verbose", "-c", "1024"}));
}

TEST_F(DeploySpec, WithoutFlagsTheFileStands) {
  DeployFlags flags;
  flags.path = write("model.yaml", kYaml);
  const auto spec = make_spec(flags);
  ASSERT_TRUE(spec.ok()) << spec.error().message;
  EXPECT_EQ(spec->name.str(), "stories");
  EXPECT_EQ(spec->args, (std::vector<std::string>{"-c", "512", "--verbose"}));
  EXPECT_EQ(spec->scaling.max_replicas, 2U);
}

TEST_F(DeploySpec, MoreReplicasKeptAwakeRaiseTheMost) {
  DeployFlags flags;
  flags.path = write("a.gguf", "GGUF");
  flags.min_replicas = 2;
  const auto spec = make_spec(flags);
  ASSERT_TRUE(spec.ok()) << spec.error().message;
  EXPECT_EQ(spec->scaling.max_replicas, 2U);
}

TEST_F(DeploySpec, AnAdapterIsAFileOrADirectoryAndABase) {
  DeployFlags flags;
  flags.path = write("Tone.gguf", "GGUF");
  flags.base = "chat";
  auto spec = make_spec(flags);
  ASSERT_TRUE(spec.ok()) << spec.error().message;
  EXPECT_EQ(spec->name.str(), "tone");
  EXPECT_EQ(spec->base_model, "chat");
  flags.min_replicas = 1;
  EXPECT_NE(make_spec(flags).error().message.find("give the others to its base"), std::string::npos);
  flags.min_replicas.reset();
  flags.path = fs::path(flags.path).parent_path();
  flags.name = "voice";
  spec = make_spec(flags);
  ASSERT_TRUE(spec.ok()) << spec.error().message;
  EXPECT_EQ(spec->source.path, flags.path);
}

TEST_F(DeploySpec, ErrorsNameTheFilePlaceOrFlag) {
  const auto error_of = [](const DeployFlags& flags) {
    const auto spec = make_spec(flags);
    return spec.ok() ? std::string("no error") : spec.error().message;
  };
  DeployFlags flags;
  flags.path =
      write("model.yaml",
            "apiVersion: thaw/v1\nkind: Model\nmetadata: {name: x}\nspec:\n  source: {path: /a}\n  scalling: {}\n");
  EXPECT_NE(error_of(flags).find("model.yaml:6:"), std::string::npos) << error_of(flags);

  flags.path = write("half.gguf", "<html>");
  EXPECT_NE(error_of(flags).find("no GGUF file"), std::string::npos) << error_of(flags);

  flags.path = write("ok.gguf", "GGUF");
  flags.device_memory = "lots";
  EXPECT_TRUE(error_of(flags).starts_with("--device-memory: ")) << error_of(flags);
  flags.device_memory.reset();
  flags.idle_timeout = "5";
  EXPECT_TRUE(error_of(flags).starts_with("--idle-timeout: ")) << error_of(flags);
  flags.idle_timeout.reset();
  flags.name = "Not Valid";
  EXPECT_NE(error_of(flags), "no error");

  DeployFlags missing;
  missing.path = (directory_ / "missing.yaml").string();
  const auto none = make_spec(missing);
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.error().kind, base::ErrorKind::not_found);
}

}  // namespace
}  // namespace thaw::cli
