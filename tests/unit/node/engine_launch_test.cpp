#include <gtest/gtest.h>

#include <algorithm>

#include <sys/stat.h>

#include "node/cpu/cores.h"
#include "node/engine/engine.h"
#include "unit/node/gguf_builder.h"

namespace thaw::node {
namespace {

using testing::llama_model;
using testing::TemporaryDirectory;
using testing::write_file;

class EngineLaunchTest : public ::testing::Test {
 protected:
  EngineLaunchTest() {
    llama_model(2, 64, 8192).write(directory_ / "models/m.gguf");
    write_file(engine_, "#!/bin/sh\n");
    ::chmod(engine_.c_str(), 0755);
    start_.model.name = base::ModelName("story");
    start_.model.source.path = directory_ / "models/m.gguf";
    start_.model.scaling.target_concurrency = 3;
    start_.device = base::DeviceId("cpu0");
  }

  EngineLaunch plan(const LaunchPaths& paths = {"/thaw/run/e.sock", "/thaw/model", "/thaw/engine"}) {
    const auto launch = plan_launch(start_, engine_, paths);
    EXPECT_TRUE(launch.ok()) << launch.error().message;
    return launch.ok() ? *launch : EngineLaunch{};
  }
  std::string refusal() {
    const auto launch = plan_launch(start_, engine_, {});
    return launch.ok() ? "" : launch.error().message;
  }
  /// What follows `flag` in argv; empty when it is not there.
  static std::string after(const EngineLaunch& launch, const std::string& flag) {
    const auto found = std::find(launch.argv.begin(), launch.argv.end(), flag);
    return found == launch.argv.end() || found + 1 == launch.argv.end() ? "" : *(found + 1);
  }
  static bool has(const EngineLaunch& launch, const std::string& flag) {
    return std::find(launch.argv.begin(), launch.argv.end(), flag) != launch.argv.end();
  }

  TemporaryDirectory directory_;
  std::string engine_ = directory_ / "engine/llama-server";
  wire::StartInstance start_;
};

void expect_mentions(const std::string& text, const std::string& part) { EXPECT_NE(text.find(part), std::string::npos) << text; }

TEST_F(EngineLaunchTest, NamesTheWeightsFromTheSpecAlone) {
  spec::ModelSpec model;
  const auto files = [&](const std::string& path, std::vector<std::string> args = {}) {
    model.source.path = path;
    model.args = std::move(args);
    return weight_files(model);
  };
  using Files = std::vector<std::string>;
  EXPECT_EQ(files("/m/a.gguf"), Files{"/m/a.gguf"});
  EXPECT_EQ(files("/m/a-00001-of-00003.gguf"), (Files{"/m/a-00001-of-00003.gguf", "/m/a-00002-of-00003.gguf", "/m/a-00003-of-00003.gguf"}));
  for (const char* one : {"/m/a-00001-of-00001.gguf", "/m/a-00002-of-00003.gguf", "/m/a-00001-of-00000.gguf", "/m/a-00001-of-0000x.gguf",
                          "/m/a-00001-of-99999.gguf", "/m/00001-of-00003.gguf", "x", ""})
    EXPECT_EQ(files(one), Files{one});
  EXPECT_EQ(files("/m/a.gguf", {"--mmproj", "/m/eyes.gguf", "-t", "2", "--lora", "/m/style.gguf", "--lora"}),
            (Files{"/m/a.gguf", "/m/eyes.gguf", "/m/style.gguf"}));
}

TEST_F(EngineLaunchTest, PreloadsTheLazyMapBeforeTheUsersOwn) {
  EXPECT_EQ(plan().env.count("LD_PRELOAD"), 0U);
  const LaunchPaths paths{"/thaw/run/e.sock", "/thaw/model", "/thaw/engine", "/thaw/lazy.so"};
  EXPECT_EQ(plan(paths).env["LD_PRELOAD"], "/thaw/lazy.so");
  start_.model.env["LD_PRELOAD"] = "/usr/lib/libjemalloc.so.2";
  EXPECT_EQ(plan(paths).env["LD_PRELOAD"], "/thaw/lazy.so:/usr/lib/libjemalloc.so.2");
}

TEST_F(EngineLaunchTest, SeesThePathsOfTheSandbox) {
  const EngineLaunch launch = plan();
  EXPECT_EQ(launch.argv[0], "/thaw/engine/llama-server");
  EXPECT_EQ(after(launch, "-m"), "/thaw/model/m.gguf");
  EXPECT_EQ(after(launch, "--host"), "/thaw/run/e.sock");
  EXPECT_EQ(after(launch, "--alias"), "story");
  EXPECT_EQ(launch.model_files, std::vector<std::string>{directory_ / "models/m.gguf"});
  EXPECT_EQ(launch.engine_dir, std::filesystem::canonical(directory_ / "engine").string());
}

TEST_F(EngineLaunchTest, SeesHostPathsWithoutASandbox) {
  const EngineLaunch launch = plan({directory_ / "e.sock", "", ""});
  EXPECT_EQ(launch.argv[0], std::filesystem::canonical(engine_).string());
  EXPECT_EQ(after(launch, "-m"), directory_ / "models/m.gguf");
}

TEST_F(EngineLaunchTest, FollowsALinkToWhereTheEngineLies) {
  std::filesystem::create_symlink(engine_, directory_ / "link");
  const std::string real = std::filesystem::canonical(directory_ / "engine").string();
  engine_ = directory_ / "link";
  EXPECT_EQ(plan().engine_dir, real);
}

TEST_F(EngineLaunchTest, MultipliesTheContextByTheSlots) {
  EXPECT_EQ(after(plan(), "-np"), "3");
  EXPECT_EQ(after(plan(), "-c"), "12288");  // 3 × 4096, the model having 8192
  start_.model.args = {"-c", "512"};
  EXPECT_EQ(after(plan(), "-c"), "1536");
  start_.model.args = {"--ctx-size", "0"};
  EXPECT_EQ(after(plan(), "-c"), "24576");
  llama_model(2, 64, 128).write(directory_ / "models/m.gguf");
  start_.model.args.clear();
  EXPECT_EQ(after(plan(), "-c"), "384");
}

TEST_F(EngineLaunchTest, UserArgumentsComeLastAndReplaceDefaults) {
  EXPECT_TRUE(has(plan(), "--no-warmup"));
  EXPECT_EQ(after(plan(), "--fit"), "off");
  EXPECT_EQ(after(plan(), "--cache-ram"), "0");
  start_.model.args = {"--warmup", "-fit", "on", "--cache-ram", "64", "--temp", "0"};
  const EngineLaunch launch = plan();
  EXPECT_FALSE(has(launch, "--no-warmup"));
  EXPECT_FALSE(has(launch, "--fit"));
  EXPECT_EQ(after(launch, "--cache-ram"), "64");
  EXPECT_EQ(launch.argv.back(), "0");
}

TEST_F(EngineLaunchTest, ServesEmbeddingsWhereTheyAreCheapOrAskedFor) {
  EXPECT_TRUE(has(plan(), "--embeddings"));
  EXPECT_EQ(after(plan(), "--pooling"), "last");
  start_.model.args = {"--pooling", "mean"};
  EXPECT_TRUE(has(plan(), "--embeddings"));
  EXPECT_EQ(after(plan(), "--pooling"), "mean");
  start_.model.args = {"--pooling", "none"};
  EXPECT_FALSE(has(plan(), "--embeddings"));
  start_.model.args = {"--rerank"};
  EXPECT_FALSE(has(plan(), "--embeddings"));

  llama_model(2, 64, 8192, 20'000).write(directory_ / "models/m.gguf");
  start_.model.args.clear();
  EXPECT_FALSE(has(plan(), "--embeddings"));
  EXPECT_FALSE(has(plan(), "--pooling"));
  start_.model.args = {"--embeddings"};
  EXPECT_TRUE(has(plan(), "--embeddings"));
  EXPECT_EQ(after(plan(), "--pooling"), "last");
  llama_model(2, 64, 8192, 20'000).number("llama.pooling_type", 3).write(directory_ / "models/m.gguf");
  start_.model.args.clear();
  EXPECT_TRUE(has(plan(), "--embeddings"));
  EXPECT_FALSE(has(plan(), "--pooling"));
}

TEST_F(EngineLaunchTest, ChoosesTheDevice) {
  EngineLaunch launch = plan();
  EXPECT_EQ(after(launch, "--device"), "none");
  EXPECT_EQ(launch.env["CUDA_VISIBLE_DEVICES"], "");
  start_.model.resources.device = spec::DeviceKind::cuda;
  start_.device = base::DeviceId("cuda2");
  launch = plan();
  EXPECT_FALSE(has(launch, "--device"));
  EXPECT_EQ(after(launch, "-ngl"), "999");
  EXPECT_EQ(launch.env["CUDA_VISIBLE_DEVICES"], "2");
  EXPECT_EQ(launch.env["CUDA_DEVICE_ORDER"], "PCI_BUS_ID");
  EXPECT_FALSE(has(launch, "--tensor-split"));
  start_.model.args = {"-ngl", "10"};
  EXPECT_FALSE(has(plan(), "999"));
  start_.model.args.clear();
  start_.model.resources.devices = 3;
  start_.devices = {base::DeviceId("cuda2"), base::DeviceId("cuda4"), base::DeviceId("cuda11")};
  launch = plan();
  EXPECT_EQ(launch.env["CUDA_VISIBLE_DEVICES"], "2,4,11");
  EXPECT_EQ(after(launch, "--split-mode"), "layer");
  EXPECT_EQ(after(launch, "--tensor-split"), "1,1,1");
  start_.model.args = {"-sm", "row", "-ts", "3,1,1"};
  launch = plan();
  EXPECT_FALSE(has(launch, "layer"));
  EXPECT_FALSE(has(launch, "1,1,1"));
}

TEST_F(EngineLaunchTest, ThreadsFollowTheCpuLimit) {
  const std::size_t cores = processor_of_each_core().size();
  EXPECT_EQ(after(plan(), "-t"), cores < 2 ? "" : std::to_string(cores));
  start_.model.resources.cpus = 2.9;
  EXPECT_EQ(after(plan(), "-t"), "2");
  start_.model.resources.cpus = 0.25;
  EXPECT_EQ(after(plan(), "-t"), "1");
  start_.model.args = {"-t", "7"};
  EXPECT_EQ(after(plan(), "-t"), "7");
}

TEST_F(EngineLaunchTest, RefusesWhatIsThawsToDecide) {
  for (const auto& [flag, remedy] : std::vector<std::pair<std::string, std::string>>{{"-m", "source.path"},
                                                                                     {"--model", "source.path"},
                                                                                     {"--host", "socket"},
                                                                                     {"--port", "socket"},
                                                                                     {"-np", "targetConcurrency"},
                                                                                     {"--alias", "metadata.name"},
                                                                                     {"--models-dir", "deploy each model"},
                                                                                     {"--device", "resources.device"},
                                                                                     {"--api-key", "checks the keys"}}) {
    start_.model.args = {"--temp", "0", flag, "x"};
    const std::string message = refusal();
    expect_mentions(message, flag);
    expect_mentions(message, remedy);
    expect_mentions(message, "story");
  }
  start_.model.args.clear();
  start_.model.env = {{"LLAMA_ARG_HOST", "0.0.0.0"}};
  expect_mentions(refusal(), "LLAMA_ARG_HOST");
  start_.model.env = {{"LLAMA_ARG_CTX_SIZE", "1"}};
  expect_mentions(refusal(), "spec.args");
}

TEST_F(EngineLaunchTest, RefusesArgumentsThatCannotBeRead) {
  for (const std::vector<std::string>& args : std::vector<std::vector<std::string>>{
           {"-c"}, {"-c", "many"}, {"-c", "-1"}, {"-c", "99999999999"}, {"-ub", "0"}, {"--cache-ram", "-1"}, {"--mmproj", "relative"}}) {
    start_.model.args = args;
    expect_mentions(refusal(), args[0]);
  }
  start_.model.args = {"-c", "2147483648"};
  expect_mentions(refusal(), "targetConcurrency");
}

TEST_F(EngineLaunchTest, ShowsNamedFilesToTheEngine) {
  write_file(directory_ / "other/projector.gguf", "x");
  start_.model.args = {"--mmproj", directory_ / "other/projector.gguf"};
  EngineLaunch launch = plan();
  EXPECT_EQ(launch.model_files.size(), 2U);
  EXPECT_EQ(after(launch, "--mmproj"), "/thaw/model/projector.gguf");
  start_.model.args = {"--lora", directory_ / "other/m.gguf"};
  expect_mentions(refusal(), "rename one");
}

TEST_F(EngineLaunchTest, EnvironmentIsTheUsersOnTopOfTheLeastNeeded) {
  start_.model.env = {{"OMP_NUM_THREADS", "1"}, {"PATH", "/opt/bin"}};
  const EngineLaunch launch = plan();
  EXPECT_EQ(launch.env.at("OMP_NUM_THREADS"), "1");
  EXPECT_EQ(launch.env.at("PATH"), "/opt/bin");
  EXPECT_EQ(launch.env.count("SHELL"), 0U);
}

TEST_F(EngineLaunchTest, ThreadsStayOnTheirCoresUnlessSomethingElseIsAskedFor) {
  const std::vector<unsigned> processors = processor_of_each_core();
  if (processors.size() < 2) GTEST_SKIP() << "one core, or cores of two kinds";
  start_.model.resources.device = spec::DeviceKind::cpu;
  EXPECT_EQ(after(plan(), "--cpu-strict"), "1");
  EXPECT_EQ(after(plan(), "--cpu-mask"), cpu_mask(processors));
  EXPECT_EQ(after(plan(), "-t"), std::to_string(processors.size()));
  start_.model.args = {"--threads", "3"};
  EXPECT_FALSE(has(plan(), "--cpu-strict"));
  start_.model.args = {"--cpu-range", "0-1"};
  EXPECT_FALSE(has(plan(), "--cpu-mask"));
  start_.model.args = {};
  start_.model.resources.cpus = 1.5;
  EXPECT_FALSE(has(plan(), "--cpu-strict"));
  EXPECT_EQ(after(plan(), "-t"), "1");
}

}  // namespace
}  // namespace thaw::node
