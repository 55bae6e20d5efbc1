#include "node/weights/weight_files.h"

#include <gtest/gtest.h>

#include "unit/node/safetensors_builder.h"

namespace thaw::node {
namespace {

using testing::GgufBuilder;
using testing::llama_model;
using testing::safetensors_index;
using testing::SafetensorsBuilder;
using testing::TemporaryDirectory;
using testing::write_file;

std::vector<std::string> names(const WeightFiles& weights) {
  std::vector<std::string> result;
  for (const WeightTensor& tensor : weights.tensors) result.push_back(tensor.name);
  return result;
}

class WeightFilesTest : public ::testing::Test {
 protected:
  WeightFiles open(const std::string& path) {
    auto weights = open_weights(path);
    EXPECT_TRUE(weights.ok()) << weights.error().message;
    return weights.ok() ? *std::move(weights) : WeightFiles{};
  }
  TemporaryDirectory directory_;
};

TEST_F(WeightFilesTest, GgufComesInTheOrderOfTheFile) {
  llama_model().tensor("blk.0.odd", 3, 5).tensor("output.weight", 2, 64).write(directory_ / "m.gguf");
  const WeightFiles weights = open(directory_ / "m.gguf");
  EXPECT_EQ(weights.format, WeightFormat::gguf);
  EXPECT_EQ(names(weights), (std::vector<std::string>{"token_embd.weight", "blk.0.odd", "output.weight"}));
  EXPECT_EQ(weights.tensors[1].dtype, "F16");
  EXPECT_EQ(weights.tensors[1].shape, (std::vector<std::uint64_t>{5, 3, 1, 1}));
  EXPECT_EQ(weights.file_bytes(), std::filesystem::file_size(directory_ / "m.gguf"));
  EXPECT_EQ(weights.tensor_bytes(), 32U * 64 * 2 + 3 * 5 * 2 + 2 * 64 * 2);
  const auto ranges = weights.ranges();
  ASSERT_EQ(ranges.size(), 1U);  // the padding behind the odd one is read along
  EXPECT_EQ(ranges[0].offset, weights.tensors[0].offset);
  EXPECT_EQ(ranges[0].offset + ranges[0].bytes, weights.file_bytes());
}

TEST_F(WeightFilesTest, EachPartOfASplitGgufIsARange) {
  for (std::uint32_t part = 0; part < 2; ++part) {
    GgufBuilder builder = part == 0 ? llama_model() : GgufBuilder();
    builder.number("split.no", part).number("split.count", 2).tensor("part" + std::to_string(part), 8, 64);
    builder.write(directory_ / ("m-0000" + std::to_string(part + 1) + "-of-00002.gguf"));
  }
  const WeightFiles weights = open(directory_ / "m-00001-of-00002.gguf");
  EXPECT_EQ(weights.files.size(), 2U);
  const auto ranges = weights.ranges();
  ASSERT_EQ(ranges.size(), 2U);
  EXPECT_EQ(ranges[1].file, 1U);
}

TEST_F(WeightFilesTest, SafetensorsComeLayerByLayer) {
  SafetensorsBuilder one;
  one.tensor("lm_head.weight", 4, 4).tensor("model.layers.10.mlp.weight", 2, 2).tensor("model.layers.2.mlp.weight", 2, 2);
  one.write(directory_ / "one.safetensors");
  SafetensorsBuilder two;
  two.tensor("model.layers.2.norm.weight", 1, 2).tensor("model.norm.weight", 1, 2).tensor("model.embed_tokens.weight", 4, 4).tensor("none", 0, 4);
  two.write(directory_ / "two.safetensors");
  write_file(directory_ / "model.safetensors.index.json", safetensors_index({{"lm_head.weight", "one.safetensors"}, {"none", "two.safetensors"}}));
  const WeightFiles weights = open(directory_.path());
  EXPECT_EQ(weights.format, WeightFormat::safetensors);
  EXPECT_EQ(names(weights), (std::vector<std::string>{"model.embed_tokens.weight", "model.layers.2.mlp.weight", "model.layers.2.norm.weight",
                                                      "model.layers.10.mlp.weight", "lm_head.weight", "model.norm.weight", "none"}));
  std::uint64_t sum = 0;
  for (const WeightRange& range : weights.ranges()) sum += range.bytes;
  EXPECT_EQ(sum, weights.tensor_bytes());
  EXPECT_EQ(weights.ranges().size(), 6U);
}

TEST_F(WeightFilesTest, NeighboursInASafetensorsFileAreOneRange) {
  SafetensorsBuilder builder;
  builder.tensor("wte.weight", 4, 4).tensor("h.0.attn", 2, 2).tensor("h.0.mlp", 2, 2).tensor("h.1.attn", 2, 2).tensor("ln_f", 1, 2);
  builder.write(directory_ / "m.safetensors");
  const WeightFiles weights = open(directory_ / "m.safetensors");
  ASSERT_EQ(weights.ranges().size(), 1U);
  EXPECT_EQ(weights.ranges()[0].bytes, weights.tensor_bytes());
}

TEST_F(WeightFilesTest, TheBytesSayWhatAFileIsAndNotItsName) {
  llama_model().write(directory_ / "m.bin");
  EXPECT_EQ(open(directory_ / "m.bin").format, WeightFormat::gguf);
  SafetensorsBuilder().tensor("t", 1, 1).write(directory_ / "blob");
  EXPECT_EQ(open(directory_ / "blob").format, WeightFormat::safetensors);
  write_file(directory_ / "text", "what is this?");
  EXPECT_NE(open_weights(directory_ / "text").error().message.find("neither"), std::string::npos);
  write_file(directory_ / "empty", "");
  EXPECT_NE(open_weights(directory_ / "empty").error().message.find("neither"), std::string::npos);
  EXPECT_EQ(open_weights(directory_ / "absent").error().kind, base::ErrorKind::not_found);
}

}  // namespace
}  // namespace thaw::node
