/// Adapters (LoRA): what is refused, what engines are started with, what they are told.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include <sys/stat.h>

#include "node/agent.h"
#include "node/engine/lora.h"
#include "unit/node/gguf_builder.h"

namespace thaw::node {
namespace {

using testing::GgufBuilder;
using testing::llama_model;
using testing::TemporaryDirectory;
using testing::write_file;

const LaunchPaths kRunc{"/thaw/run/engine.sock", "/thaw/model", "/thaw/engine", "", "127.0.0.1", 8080};

GgufBuilder lora(const std::string& architecture = "llama") {
  GgufBuilder builder;
  builder.text("general.type", "adapter").text("general.architecture", architecture).text("adapter.type", "lora");
  builder.value("adapter.lora.alpha", 6, GgufBuilder::raw(4.0F));
  return builder;
}

class Adapters : public ::testing::Test {
 protected:
  Adapters() {
    llama_model(2, 64, 2048)
        .tensor("blk.0.attn_q.weight", 64, 64)
        .tensor("blk.0.ffn_up.weight", 256, 64)
        .write(directory_ / "m.gguf");
    base_.name = base::ModelName("chat");
    base_.source.path = directory_ / "m.gguf";
    write_file(directory_ / "engine/llama-server",
               "\x7f"
               "ELF");
    ::chmod((directory_ / "engine/llama-server").c_str(), 0755);
  }

  std::string put(const std::string& name, const GgufBuilder& builder) {
    builder.write(directory_ / name);
    return directory_ / name;
  }
  std::string peft(const std::string& name, const std::string& config) {
    write_file(directory_ / (name + "/adapter_config.json"), config);
    write_file(directory_ / (name + "/adapter_model.safetensors"), "12345");
    ::chmod((directory_ / name).c_str(), 0755);
    return directory_ / name;
  }
  std::string problem(const std::string& path) const {
    const auto fits = adapter_fits(base_, {"tone", path, 0});
    return fits.ok() ? "" : fits.error().message;
  }
  EngineLaunch plan() {
    wire::StartInstance start;
    start.model = base_;
    start.model.resources.device_memory_bytes = 1ULL << 30;
    start.device = base::DeviceId("cpu0");
    const auto launch = plan_launch(start, directory_ / "engine/llama-server", kRunc);
    EXPECT_TRUE(launch.ok()) << launch.error().message;
    return launch.ok() ? *launch : EngineLaunch{};
  }
  static std::string line(const EngineLaunch& launch) {
    std::string out;
    for (const std::string& word : launch.argv) out += word + " ";
    return out;
  }

  TemporaryDirectory directory_;
  spec::ModelSpec base_;
};

void expect_mentions(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << text;
}

TEST_F(Adapters, OneThatFitsIsTakenForWhatItIs) {
  const std::string path =
      put("tone.gguf", lora().tensor("blk.0.attn_q.weight.lora_a", 4, 64).tensor("blk.0.attn_q.weight.lora_b", 64, 4));
  EXPECT_EQ(problem(path), "");
  spec::ModelSpec spec;
  spec.name = base::ModelName("tone");
  spec.base_model = "chat";
  spec.source.path = path;
  const auto facts = inspect_model(spec);
  ASSERT_TRUE(facts.ok()) << facts.error().message;
  EXPECT_EQ(facts->format, "gguf v3 lora");
  EXPECT_EQ(facts->weights_bytes, std::filesystem::file_size(path));
  ASSERT_EQ(facts->files.size(), 1U);
}

TEST_F(Adapters, WhatIsNoneOrOfAnotherModelIsRefused) {
  const auto pair = [](GgufBuilder builder, const std::string& tensor, std::uint64_t in, std::uint64_t out) {
    return builder.tensor(tensor + ".lora_a", 4, in).tensor(tensor + ".lora_b", out, 4);
  };
  expect_mentions(problem(base_.source.path), "is no adapter");
  expect_mentions(problem(put("q.gguf", pair(lora("qwen2"), "blk.0.attn_q.weight", 64, 64))), "architecture \"qwen2\"");
  expect_mentions(problem(put("n.gguf", pair(lora(), "blk.7.attn_q.weight", 64, 64))), "no tensor blk.7.attn_q.weight");
  expect_mentions(problem(put("w.gguf", pair(lora(), "blk.0.attn_q.weight", 32, 32))),
                  "32 x 32, and the base's has 64 x 64");
  expect_mentions(problem(put("h.gguf", lora().tensor("blk.0.attn_q.weight.lora_a", 4, 64))), "lacks its other half");
  expect_mentions(problem(put("o.gguf", lora().tensor("blk.0.attn_q.weight", 64, 64))),
                  "neither a lora_a nor a lora_b");
  expect_mentions(problem(put("e.gguf", lora())), "no tensors");
  GgufBuilder vector;
  vector.text("general.type", "adapter").text("general.architecture", "llama").text("adapter.type", "control_vector");
  expect_mentions(problem(put("v.gguf", vector)), "control_vector");
  expect_mentions(problem(put("a:b.gguf", pair(lora(), "blk.0.attn_q.weight", 64, 64))), "rename");
  expect_mentions(problem(directory_ / "nothing.gguf"), "nothing.gguf");
  // Not square: which way round it lies counts.
  EXPECT_EQ(problem(put("f.gguf", pair(lora(), "blk.0.ffn_up.weight", 64, 256))), "");
  expect_mentions(problem(put("g.gguf", pair(lora(), "blk.0.ffn_up.weight", 256, 64))), "of another model");
}

TEST_F(Adapters, OneNameInOneDirectory) {
  const GgufBuilder fits =
      lora().tensor("blk.0.attn_q.weight.lora_a", 4, 64).tensor("blk.0.attn_q.weight.lora_b", 64, 4);
  const std::string one = put("one/tone.gguf", fits), two = put("two/tone.gguf", fits);
  base_.adapters = {{"other", one, 0}};
  expect_mentions(problem(two), "same name");
  base_.adapters = {{"tone", one, 0}};
  EXPECT_EQ(problem(two), "") << "in place of the first";
}

TEST_F(Adapters, WhatTheBaseSaysAgainstItIsRefused) {
  const std::string path =
      put("t.gguf", lora().tensor("blk.0.attn_q.weight.lora_a", 4, 64).tensor("blk.0.attn_q.weight.lora_b", 64, 4));
  for (const char* arg : {"--lora", "--embeddings", "--rerank", "--cache-prompt"}) {
    base_.args = {arg};
    expect_mentions(problem(path), arg);
  }
  base_.args.clear();
  base_.engine = spec::EngineKind::command;
  expect_mentions(problem(path), "command");
}

TEST_F(Adapters, LlamaCppHasAllOfThemAtNoScale) {
  base_.args = {"-c", "512"};
  EXPECT_EQ(line(plan()).find("--lora"), std::string::npos);
  base_.adapters = {{"one", directory_ / "one.gguf", 1}, {"two", directory_ / "two.gguf", 2}};
  wire::StartInstance start;
  start.model = base_;
  const auto lost = plan_launch(start, directory_ / "engine/llama-server", kRunc);
  ASSERT_FALSE(lost.ok());
  expect_mentions(lost.error().message, "thaw rm one");
  for (const spec::Adapter& adapter : base_.adapters) write_file(adapter.path, "x");
  const EngineLaunch launch = plan();
  expect_mentions(line(launch),
                  "--lora-scaled /thaw/model/one.gguf:0 --lora-scaled /thaw/model/two.gguf:0 --no-cache-prompt ");
  EXPECT_EQ(line(launch).find("--embeddings"), std::string::npos);
  EXPECT_EQ(launch.model_files,
            (std::vector<std::string>{base_.source.path, directory_ / "one.gguf", directory_ / "two.gguf"}));
  EXPECT_EQ(weight_files(base_).size(), 3U);
  EXPECT_EQ(bytes_of_adapters(base_), 3U);
}

TEST_F(Adapters, OthersAreMadeReadyToBeToldOfThem) {
  write_file(directory_ / "m/model.safetensors", "x");
  base_.source.path = directory_ / "m";
  base_.adapters = {{"one", peft("one", R"({"peft_type":"LORA","r":8})"), 1}, {"two", peft("two", R"({"r":48})"), 2}};
  base_.engine = spec::EngineKind::vllm;
  EngineLaunch launch = plan();
  expect_mentions(line(launch), "--enable-lora --max-loras 2 --max-cpu-loras 2 --max-lora-rank 64 ");
  EXPECT_EQ(launch.env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"], "True");
  EXPECT_EQ(launch.model_files.back(), directory_ / "two");
  base_.args = {"--max_lora_rank=128"};
  EXPECT_EQ(line(plan()).find("--max-lora-rank"), std::string::npos) << "the user's own counts";
  base_.args.clear();
  base_.engine = spec::EngineKind::sglang;
  expect_mentions(line(plan()), "--enable-lora --max-loras-per-batch 2 --max-lora-rank 64 --lora-target-modules all ");
  base_.adapters.clear();
  EXPECT_EQ(line(plan()).find("lora"), std::string::npos);
}

TEST_F(Adapters, ADirectoryOfPeftsIsLookedInto) {
  base_.engine = spec::EngineKind::vllm;
  base_.source.path = directory_ / "m";
  write_file(directory_ / "m/model.safetensors", "x");
  const std::string good = peft("good", R"({"peft_type":"LORA","r":16})");
  EXPECT_EQ(problem(good), "");
  EXPECT_EQ(adapter_rank(good).value_or(0), 16U);
  expect_mentions(problem(peft("prompt", R"({"peft_type":"PROMPT_TUNING","r":1})")), "only LORA");
  expect_mentions(problem(peft("rankless", "{}")), "\"r\"");
  expect_mentions(problem(peft("broken", "{")), "no JSON object");
  std::filesystem::create_directory(directory_ / "empty");
  expect_mentions(problem(directory_ / "empty"), "adapter_config.json");
  expect_mentions(problem(directory_ / "m/model.safetensors"), "no directory");
  spec::ModelSpec spec;
  spec.base_model = "chat";
  spec.engine = spec::EngineKind::vllm;
  spec.source.path = good;
  const auto facts = inspect_model(spec);
  ASSERT_TRUE(facts.ok()) << facts.error().message;
  EXPECT_EQ(facts->weights_bytes, 5U);
  EXPECT_EQ(facts->files.size(), 2U);
}

}  // namespace
}  // namespace thaw::node
