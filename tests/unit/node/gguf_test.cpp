#include "node/weights/gguf.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include <sys/stat.h>

#include "unit/node/gguf_builder.h"

namespace thaw::node {
namespace {

using testing::GgufBuilder;
using testing::llama_model;
using testing::TemporaryDirectory;
using testing::write_file;

class GgufTest : public ::testing::Test {
 protected:
  /// The error of reading these bytes as a file; empty when it was accepted.
  std::string refusal(const std::string& bytes) {
    write_file(directory_ / "m.gguf", bytes);
    const auto header = read_gguf_header(directory_ / "m.gguf");
    return header.ok() ? "" : header.error().message;
  }
  TemporaryDirectory directory_;
};

void expect_mentions(const std::string& text, const std::string& part) { EXPECT_NE(text.find(part), std::string::npos) << text; }

TEST_F(GgufTest, ReadsMetadataAndPlacesTensors) {
  GgufBuilder builder = llama_model(3, 64, 4096, 100);
  builder.value("a.negative", 5, GgufBuilder::raw<std::int32_t>(-7)).value("a.real", 6, GgufBuilder::raw(0.5F)).value("a.flag", 7, "\1");
  builder.value("a.layers", 9, GgufBuilder::raw<std::uint32_t>(4) + GgufBuilder::raw<std::uint64_t>(2) + GgufBuilder::raw<std::uint32_t>(8) +
                                   GgufBuilder::raw<std::uint32_t>(0));
  builder.tensor("output.weight", 100, 64);
  builder.write(directory_ / "m.gguf");
  const auto header = read_gguf_header(directory_ / "m.gguf");
  ASSERT_TRUE(header.ok()) << header.error().message;
  EXPECT_EQ(header->version, 3U);
  EXPECT_EQ(header->text("general.architecture"), "llama");
  EXPECT_EQ(header->number("llama.context_length"), 4096U);
  EXPECT_EQ(header->number("a.negative"), std::nullopt);
  EXPECT_EQ(header->real("a.negative"), -7.0);
  EXPECT_EQ(header->real("a.real"), 0.5);
  EXPECT_EQ(header->number("a.flag"), 1U);
  EXPECT_EQ(header->number("general.architecture"), std::nullopt);
  ASSERT_NE(header->array("a.layers"), nullptr);
  EXPECT_EQ(header->array("a.layers")->numbers, (std::vector<double>{8, 0}));
  EXPECT_EQ(header->array("tokenizer.ggml.tokens")->count, 100U);
  ASSERT_EQ(header->tensors.size(), 2U);
  EXPECT_EQ(header->tensors[1].bytes, 100U * 64 * 2);
  EXPECT_EQ(header->tensors[1].offset, header->data_offset + 100 * 64 * 2);
  EXPECT_EQ(header->tensors[1].shape[1], 100U);
  EXPECT_EQ(header->data_offset + builder.data_bytes(), header->file_bytes);
}

TEST_F(GgufTest, AcceptsVersionTwoAndRefusesOthers) {
  GgufBuilder builder;
  builder.version = 2;
  EXPECT_EQ(refusal(builder.header()), "");
  builder.version = 1;
  expect_mentions(refusal(builder.header()), "version 1");
  builder.version = 0x03000000;  // big-endian
  expect_mentions(refusal(builder.header()), "little-endian");
  builder.magic = "GGML";
  expect_mentions(refusal(builder.header()), "convert");
}

TEST_F(GgufTest, EveryTruncationOfTheHeaderIsAnError) {
  const std::string whole = llama_model().header();
  const std::size_t end = whole.find("token_embd.weight") + 17;
  write_file(directory_ / "m.gguf", whole);
  for (std::size_t length = end; length-- > 0;) {
    std::filesystem::resize_file(directory_ / "m.gguf", length);
    EXPECT_FALSE(read_gguf_header(directory_ / "m.gguf").ok()) << length;
  }
}

TEST_F(GgufTest, ATruncatedDataSectionIsAnError) {
  const GgufBuilder builder = llama_model();
  builder.write(directory_ / "m.gguf");
  std::filesystem::resize_file(directory_ / "m.gguf", builder.header().size() + builder.data_bytes() - 1);
  const auto header = read_gguf_header(directory_ / "m.gguf");
  ASSERT_FALSE(header.ok());
  expect_mentions(header.error().message, "incomplete");
}

TEST_F(GgufTest, HugeCountsAreRefusedBeforeAnythingIsAllocated) {
  const auto start = [](std::uint64_t tensors, std::uint64_t keys) {
    return "GGUF" + GgufBuilder::raw<std::uint32_t>(3) + GgufBuilder::raw(tensors) + GgufBuilder::raw(keys);
  };
  expect_mentions(refusal(start(~0ULL, 0)), "tensors");
  expect_mentions(refusal(start(0, ~0ULL)), "keys");
  expect_mentions(refusal(start(kMaxGgufTensors, 0)), "the file ends");
  expect_mentions(refusal(start(0, 1) + GgufBuilder::raw(~0ULL)), "longer than");
  GgufBuilder builder;
  builder.value("k", 9, GgufBuilder::raw<std::uint32_t>(4) + GgufBuilder::raw(~0ULL));
  expect_mentions(refusal(builder.header()), "more than the file can hold");
  builder = {};
  builder.value("k", 9, GgufBuilder::raw<std::uint32_t>(8) + GgufBuilder::raw(1ULL << 61));
  expect_mentions(refusal(builder.header()), "more than the file can hold");
  builder = {};
  builder.value("k", 8, GgufBuilder::raw(~0ULL));
  expect_mentions(refusal(builder.header()), "the file ends");
  builder = {};
  builder.value("k", 9, GgufBuilder::raw<std::uint32_t>(9) + GgufBuilder::raw<std::uint64_t>(1));
  expect_mentions(refusal(builder.header()), "unsupported type");
  builder = {};
  builder.value("k", 13, "");
  expect_mentions(refusal(builder.header()), "unknown value type");
}

TEST_F(GgufTest, HostileTensorsAreRefused) {
  const auto with = [](std::vector<std::uint64_t> shape, std::uint32_t type, std::uint64_t offset) {
    return GgufBuilder().tensor_raw("t", shape, type, offset).header();
  };
  expect_mentions(refusal(with({1, 1, 1, 1, 1}, 0, 0)), "5 dimensions");
  expect_mentions(refusal(with({1ULL << 32, 1ULL << 32}, 0, 0)), "overflows");
  expect_mentions(refusal(with({1ULL << 62}, 0, 0)), "does not know");  // 2^64 bytes
  expect_mentions(refusal(with({33}, 2, 0)), "Q4_0");                   // no whole number of blocks
  expect_mentions(refusal(with({32}, 200, 0)), "type 200");
  expect_mentions(refusal(with({32}, 0, 8)), "aligned");
  expect_mentions(refusal(with({32}, 0, ~0ULL - 31)), "overflows");
  expect_mentions(refusal(with({32}, 0, 1ULL << 40)), "incomplete");
  expect_mentions(refusal(GgufBuilder().number("general.alignment", 24).header()), "power of two");
  expect_mentions(refusal(GgufBuilder().number("general.alignment", 0).header()), "power of two");
  expect_mentions(refusal(GgufBuilder().value("general.alignment", 8, GgufBuilder::raw_string("32")).header()), "power of two");
  expect_mentions(refusal(GgufBuilder().number("k", 1).number("k", 2).header()), "second time");
  expect_mentions(refusal(GgufBuilder().number("", 1).header()), "is empty");
  expect_mentions(refusal(with({16, 2}, 2, 0)), "Q4_0");  // blocks do not go over the ends of rows
  expect_mentions(refusal(with({0, 1ULL << 40, 1ULL << 40}, 0, 0)), "overflows");
  expect_mentions(refusal(GgufBuilder().tensor_raw(std::string(64, 'n'), {1}, 0, 0).header()), "longer than 63");
}

TEST_F(GgufTest, TensorsLieOneBehindTheOther) {
  const auto pair = [this](std::uint64_t first, std::uint64_t second, const char* name = "b") {
    return refusal(GgufBuilder().tensor_raw("a", {16}, 0, first).tensor_raw(name, {16}, 0, second).header() + std::string(1024, '\0'));
  };
  EXPECT_EQ(pair(0, 64), "");
  expect_mentions(pair(0, 0), "overlap");
  expect_mentions(pair(0, 32), "overlap");
  expect_mentions(pair(64, 0), "overlap");
  expect_mentions(pair(0, 96), "gaps");
  expect_mentions(pair(0, 64, "a"), "there twice");
  EXPECT_EQ(refusal(GgufBuilder().tensor_raw("empty", {0, 16}, 0, 0).tensor_raw("b", {16}, 0, 0).header() + std::string(64, '\0')), "");
}

TEST_F(GgufTest, MetadataTakesABoundedPartOfTheMemory) {
  GgufBuilder builder;  // each number of one byte takes eight in memory
  const std::string bytes =
      GgufBuilder::raw<std::uint32_t>(0) + GgufBuilder::raw(GgufArray::kMaxKeptNumbers) + std::string(GgufArray::kMaxKeptNumbers, '\1');
  for (std::uint64_t kept = 0; kept <= kMaxGgufKeptBytes; kept += GgufArray::kMaxKeptNumbers * 8) builder.value("k" + std::to_string(kept), 9, bytes);
  expect_mentions(refusal(builder.header()), "the metadata takes more than");
}

TEST_F(GgufTest, NamesFromAFileAreMadeFitForMessages) {
  expect_mentions(refusal(GgufBuilder().tensor_raw("a\x1b[2Jb\n", {32}, 200, 0).header()), "a\\x1b[2Jb\\x0a");
}

TEST_F(GgufTest, DamagedBytesNeverCrash) {
  const std::string whole = llama_model().header();
  std::mt19937 random(7);  // NOLINT: the same damage each time
  int refused = 0;
  for (int round = 0; round < 600; ++round) {
    std::string bytes = whole;
    for (int i = 0; i < 4; ++i) bytes[random() % bytes.size()] = static_cast<char>(random());
    refused += refusal(bytes).empty() ? 0 : 1;
  }
  EXPECT_GT(refused, 200);
}

TEST_F(GgufTest, OtherThanRegularFilesAreRefused) {
  EXPECT_EQ(read_gguf_header(directory_ / "absent").error().kind, base::ErrorKind::not_found);
  expect_mentions(read_gguf_header(directory_.path()).error().message, "regular file");
  ASSERT_EQ(::mkfifo((directory_ / "fifo").c_str(), 0600), 0);
  expect_mentions(read_gguf_header(directory_ / "fifo").error().message, "regular file");
}

TEST_F(GgufTest, FindsThePartsOfASplitModel) {
  for (std::uint32_t part = 0; part < 3; ++part) {
    GgufBuilder builder = part == 0 ? llama_model() : GgufBuilder();
    builder.number("split.no", part).number("split.count", 3).tensor("part" + std::to_string(part), 8, 64);
    builder.write(directory_ / ("m-0000" + std::to_string(part + 1) + "-of-00003.gguf"));
  }
  const auto model = open_gguf_model(directory_ / "m-00001-of-00003.gguf");
  ASSERT_TRUE(model.ok()) << model.error().message;
  EXPECT_EQ(model->parts.size(), 3U);
  EXPECT_EQ(model->files()[2], directory_ / "m-00003-of-00003.gguf");
  EXPECT_EQ(model->tensor_bytes(), 32U * 64 * 2 + 3 * 8 * 64 * 2);
  expect_mentions(open_gguf_model(directory_ / "m-00002-of-00003.gguf").error().message, "m-00001-of-00003.gguf");
  std::filesystem::rename(directory_ / "m-00003-of-00003.gguf", directory_ / "away");
  EXPECT_EQ(open_gguf_model(directory_ / "m-00001-of-00003.gguf").error().kind, base::ErrorKind::not_found);
  std::filesystem::copy(directory_ / "m-00002-of-00003.gguf", directory_ / "m-00003-of-00003.gguf");
  expect_mentions(open_gguf_model(directory_ / "m-00001-of-00003.gguf").error().message, "mixed up");
  const auto third = [this](std::uint32_t count, const std::string& tensor) {
    GgufBuilder builder;
    builder.number("split.no", 2).number("split.count", count).tensor(tensor, 8, 64).write(directory_ / "m-00003-of-00003.gguf");
    const auto mixed = open_gguf_model(directory_ / "m-00001-of-00003.gguf");
    return mixed.ok() ? std::string() : mixed.error().message;
  };
  EXPECT_EQ(third(3, "part2"), "");
  expect_mentions(third(4, "part2"), "part 3 of 3; the parts were mixed up");
  expect_mentions(third(3, "part1"), "tensor part1 is in ");
  llama_model().number("split.no", 0).number("split.count", 3).number("split.tensors.count", 4).write(directory_ / "m-00001-of-00003.gguf");
  expect_mentions(third(3, "part2"), "hold 4 tensors, but they hold 3");
  llama_model().number("split.no", 3).number("split.count", 3).write(directory_ / "m-00001-of-00003.gguf");
  expect_mentions(third(3, "part2"), "part 3 of 3; fetch it again");
  GgufBuilder().number("split.no", 0).number("split.count", 3).write(directory_ / "m-00001-of-00003.gguf");
  std::filesystem::rename(directory_ / "m-00001-of-00003.gguf", directory_ / "other.gguf");
  expect_mentions(open_gguf_model(directory_ / "other.gguf").error().message, "give it back its name");
}

TEST_F(GgufTest, ReadsARealModelWhereThereIsOne) {
  const char* given = std::getenv("THAW_TEST_MODEL");  // NOLINT(concurrency-mt-unsafe)
  const std::string path = given != nullptr ? given : std::string(THAW_SOURCE_DIR) + "/../shared/models/stories260K.gguf";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not there; set THAW_TEST_MODEL";
  const auto model = open_gguf_model(path);
  ASSERT_TRUE(model.ok()) << model.error().message;
  EXPECT_FALSE(model->head().text("general.architecture").empty());
  EXPECT_GT(model->tensor_bytes(), 0U);
  EXPECT_LE(model->tensor_bytes(), model->file_bytes());
}

}  // namespace
}  // namespace thaw::node
