#include <gtest/gtest.h>

#include "node/weights/safetensors.h"
#include "unit/node/safetensors_builder.h"

namespace thaw::node {
namespace {

namespace fs = std::filesystem;
using testing::safetensors_index;
using testing::SafetensorsBuilder;
using testing::TemporaryDirectory;
using testing::write_file;

void expect_mentions(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << text;
}

constexpr const char* kOne = "model-00001-of-00002.safetensors";
constexpr const char* kTwo = "model-00002-of-00002.safetensors";

class SafetensorsIndexTest : public ::testing::Test {
 protected:
  SafetensorsIndexTest() {
    SafetensorsBuilder().tensor("a", 2, 2).tensor("b", 1, 1).write(directory_ / kOne);
    SafetensorsBuilder().tensor("c", 4, 4).write(directory_ / kTwo);
    index(safetensors_index({{"a", kOne}, {"b", kOne}, {"c", kTwo}}));
  }
  [[nodiscard]] std::string index_path() const { return directory_ / "model.safetensors.index.json"; }
  void index(const std::string& json) const { write_file(index_path(), json); }
  std::string refusal() const {
    const auto model = open_safetensors_model(index_path());
    return model.ok() ? "" : model.error().message;
  }
  std::string refusal_of(const std::string& json) const {
    index(json);
    return refusal();
  }
  TemporaryDirectory directory_;
};

TEST_F(SafetensorsIndexTest, FindsTheShards) {
  for (const std::string& source : {directory_.path(), index_path()}) {
    const auto model = open_safetensors_model(source);
    ASSERT_TRUE(model.ok()) << model.error().message;
    EXPECT_EQ(model->index_path, index_path());
    ASSERT_EQ(model->shards.size(), 2U);
    EXPECT_EQ(model->shards[0].path, fs::canonical(directory_ / kOne));
    EXPECT_EQ(model->shards[1].tensors[0].name, "c");
    EXPECT_EQ(model->file_bytes(), fs::file_size(directory_ / kOne) + fs::file_size(directory_ / kTwo));
  }
}

TEST_F(SafetensorsIndexTest, ADirectoryHoldsOneModel) {
  fs::remove(index_path());
  expect_mentions(open_safetensors_model(directory_.path()).error().message, "2 files that may be meant");
  fs::remove(directory_ / kTwo);
  const auto only = open_safetensors_model(directory_.path());
  ASSERT_TRUE(only.ok()) << only.error().message;
  EXPECT_EQ(only->index_path, "");
  EXPECT_EQ(only->shards.size(), 1U);
  SafetensorsBuilder().tensor("usual", 1, 1).write(directory_ / "model.safetensors");
  EXPECT_EQ(open_safetensors_model(directory_.path())->shards[0].tensors[0].name, "usual");
  fs::remove(directory_ / "model.safetensors");
  fs::remove(directory_ / kOne);
  EXPECT_EQ(open_safetensors_model(directory_.path()).error().kind, base::ErrorKind::not_found);
}

TEST_F(SafetensorsIndexTest, WhatTheIndexDoesNotListIsLoadedAllTheSame) {
  index(safetensors_index({{"a", kOne}, {"c", kTwo}}));
  EXPECT_EQ(refusal(), "");
}

TEST_F(SafetensorsIndexTest, AMissingShardIsNamed) {
  fs::remove(directory_ / kTwo);
  const auto model = open_safetensors_model(index_path());
  ASSERT_FALSE(model.ok());
  EXPECT_EQ(model.error().kind, base::ErrorKind::not_found);
  expect_mentions(model.error().message, kTwo);
  expect_mentions(model.error().message, "fetch the whole model");
}

TEST_F(SafetensorsIndexTest, ADamagedShardIsNamed) {
  fs::resize_file(directory_ / kTwo, fs::file_size(directory_ / kTwo) - 1);
  expect_mentions(refusal(), kTwo);
  expect_mentions(refusal(), "incomplete");
}

TEST_F(SafetensorsIndexTest, ShardsThatDoNotBelongTogetherAreRefused) {
  index(safetensors_index({{"a", kOne}, {"b", kTwo}, {"c", kTwo}}));
  expect_mentions(refusal(), "tensor b is in model-00002-of-00002.safetensors, but it is in model-00001-of-00002.safetensors");
  index(safetensors_index({{"a", kOne}, {"c", kTwo}, {"d", kTwo}}));
  expect_mentions(refusal(), "tensor d is in model-00002-of-00002.safetensors, but it is in none");
  index(safetensors_index({{"a", kOne}, {"c", kTwo}}));
  SafetensorsBuilder().tensor("b", 1, 1).tensor("c", 4, 4).write(directory_ / kTwo);
  expect_mentions(refusal(), "tensor b is in ");
  expect_mentions(refusal(), "mixed up");
}

TEST_F(SafetensorsIndexTest, OutsideItsDirectoryNothingIsRead) {
  TemporaryDirectory elsewhere;
  const std::string secret = elsewhere / "secret.safetensors";
  SafetensorsBuilder().tensor("c", 4, 4).write(secret);
  for (const std::string& name :
       {"../" + fs::path(elsewhere.path()).filename().string() + "/secret.safetensors", secret, std::string(".."), std::string("."), std::string(),
        std::string("sub/x"), std::string("x\\u0000.safetensors"), std::string(300, 'x')}) {
    expect_mentions(refusal_of(safetensors_index({{"a", kOne}, {"c", name}})), "plain file name");
  }
  index(safetensors_index({{"a", kOne}, {"c", kTwo}}));
  fs::remove(directory_ / kTwo);
  fs::create_symlink(secret, directory_ / kTwo);
  EXPECT_EQ(open_safetensors_model(index_path()).error().kind, base::ErrorKind::denied);
  expect_mentions(refusal(), "outside the model's directory");
  fs::remove(directory_ / kTwo);
  fs::create_symlink(kTwo, directory_ / kTwo);
  EXPECT_NE(refusal(), "");  // a link to itself
}

TEST_F(SafetensorsIndexTest, TheHuggingFaceCacheIsRead) {
  const std::string cache = directory_ / "models--o--n";
  const std::string snapshot = cache + "/snapshots/0123";
  fs::create_directories(snapshot);
  fs::create_directories(cache + "/blobs");
  for (const auto& [name, blob] : {std::pair(kOne, "aaaa"), std::pair(kTwo, "bbbb"), std::pair("model.safetensors.index.json", "cccc")}) {
    fs::rename(directory_ / name, cache + "/blobs/" + blob);
    fs::create_symlink(std::string("../../blobs/") + blob, snapshot + "/" + name);
  }
  const auto model = open_safetensors_model(snapshot);
  ASSERT_TRUE(model.ok()) << model.error().message;
  EXPECT_EQ(model->shards[1].path, fs::canonical(cache + "/blobs/bbbb"));

  fs::rename(cache + "/blobs", directory_ / "moved");
  fs::create_directory_symlink(directory_ / "moved", cache + "/blobs");
  expect_mentions(open_safetensors_model(snapshot).error().message, "outside");
}

TEST_F(SafetensorsIndexTest, WhatIsNoIndexIsRefused) {
  expect_mentions(refusal_of(""), "too early");
  expect_mentions(refusal_of("[]"), "no JSON object");
  expect_mentions(refusal_of("{}"), "no weight_map");
  expect_mentions(refusal_of(R"({"metadata":{"weight_map":{}}})"), "no weight_map");
  expect_mentions(refusal_of(R"({"weight_map":[]})"), "no object");
  expect_mentions(refusal_of(R"({"weight_map":{},"weight_map":{}})"), "a second time");
  expect_mentions(refusal_of(R"({"weight_map":{"a":1}})"), "no string");
  expect_mentions(refusal_of(R"({"weight_map":{"a":["x"]}})"), "no string");
  expect_mentions(refusal_of(safetensors_index({{"a", kOne}, {"a", kOne}})), "tensor a twice");
  expect_mentions(refusal_of(R"({"x":)" + std::string(100'000, '[')), "deep in each other");
  std::string many = R"({"weight_map":{)";
  for (std::size_t i = 0; i <= kMaxSafetensorsShards; ++i) many += fmt::format(R"("{}":"{}",)", i, i);
  expect_mentions(refusal_of(many), "more than 1000 shards");
  many = R"({"weight_map":{)";
  for (std::size_t i = 0; i <= kMaxSafetensorsTensors; ++i) many += fmt::format(R"("{}":"x",)", i);
  expect_mentions(refusal_of(many), "more than 262144 tensors");
  fs::resize_file(index_path(), kMaxSafetensorsIndexBytes + 1);
  expect_mentions(refusal(), "no index");
}

}  // namespace
}  // namespace thaw::node
