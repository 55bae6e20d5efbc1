#include "node/weights/safetensors.h"

#include <gtest/gtest.h>

#include <random>

#include "unit/node/safetensors_builder.h"

namespace thaw::node {
namespace {

using testing::SafetensorsBuilder;
using testing::TemporaryDirectory;
using testing::write_file;

void expect_mentions(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << text;
}

class SafetensorsTest : public ::testing::Test {
 protected:
  [[nodiscard]] std::string path() const { return directory_ / "m.safetensors"; }

  /// The error of reading these bytes as a file; empty when it was accepted.
  std::string refusal(const std::string& bytes, std::uint64_t data_bytes = 0) {
    write_file(path(), bytes);
    std::filesystem::resize_file(path(), bytes.size() + data_bytes);
    const auto header = read_safetensors_header(path());
    if (header.ok()) return "";
    expect_mentions(header.error().message, path());
    return header.error().message;
  }
  std::string refusal(const SafetensorsBuilder& builder, std::uint64_t data_bytes) { return refusal(builder.header(), data_bytes); }
  /// Of a header with one tensor, described by this JSON.
  std::string refusal_of(const std::string& tensor, std::uint64_t data_bytes = 8) {
    return refusal(SafetensorsBuilder().member("t", tensor).header(), data_bytes);
  }
  TemporaryDirectory directory_;
};

TEST_F(SafetensorsTest, ReadsTensorsInTheOrderOfTheirBytes) {
  SafetensorsBuilder builder;
  builder.member("__metadata__", R"({"format":"pt","long":")" + std::string(100'000, 'x') + "\"}");
  builder.tensor_raw("last", "F32", "2,3", "6,30").tensor_raw("first", "U8", "6", "0,6").tensor_raw("none", "I64", "4,0", "6,6");
  builder.tensor_raw("scalar", "F64", "", "30,38").data(38).write(path());
  const auto header = read_safetensors_header(path());
  ASSERT_TRUE(header.ok()) << header.error().message;
  ASSERT_EQ(header->tensors.size(), 4U);
  EXPECT_EQ(header->tensors[0].name, "first");
  EXPECT_EQ(header->tensors[1].name, "none");
  EXPECT_EQ(header->tensors[1].bytes, 0U);
  EXPECT_EQ(header->tensors[2].name, "last");
  EXPECT_EQ(header->tensors[2].dtype, "F32");
  EXPECT_EQ(header->tensors[2].shape, (std::vector<std::uint64_t>{2, 3}));
  EXPECT_EQ(header->tensors[2].offset, header->data_offset + 6);
  EXPECT_EQ(header->tensors[2].bytes, 24U);
  EXPECT_TRUE(header->tensors[3].shape.empty());
  EXPECT_EQ(header->data_offset, builder.header().size());
  EXPECT_EQ(header->data_offset + 38, header->file_bytes);
}

TEST_F(SafetensorsTest, PackedValuesFillWholeBytes) {
  EXPECT_EQ(refusal(SafetensorsBuilder().tensor_raw("t", "F4", "3,2", "0,3"), 3), "");
  EXPECT_EQ(refusal(SafetensorsBuilder().tensor_raw("t", "F6_E2M3", "4", "0,3"), 3), "");
  expect_mentions(refusal(SafetensorsBuilder().tensor_raw("t", "F4", "3", "0,2"), 2), "whole number of bytes");
}

TEST_F(SafetensorsTest, AnEmptyHeaderIsAFileWithoutTensors) {
  EXPECT_EQ(refusal(SafetensorsBuilder().header()), "");
  EXPECT_EQ(refusal(SafetensorsBuilder::with_length("{}")), "");
}

TEST_F(SafetensorsTest, NamesMayBeEscaped) {
  SafetensorsBuilder().tensor_raw("a\\u00e4\\n\\\"", "U8", "1", "0,1").data(1).write(path());
  const auto header = read_safetensors_header(path());
  ASSERT_TRUE(header.ok()) << header.error().message;
  EXPECT_EQ(header->tensors[0].name, "aä\n\"");
}

TEST_F(SafetensorsTest, WrongLengthsAreRefused) {
  expect_mentions(refusal(""), "the file ends at 0");
  expect_mentions(refusal(std::string(7, '\0')), "the file ends at 7");
  expect_mentions(refusal(std::string(8, '\0')), "ends too early");
  const auto length = [](std::uint64_t bytes) { return testing::GgufBuilder::raw(bytes) + "{}"; };
  expect_mentions(refusal(length(kMaxSafetensorsHeaderBytes + 1)), "more than 100000000");
  expect_mentions(refusal(length(~0ULL)), "more than 100000000");
  expect_mentions(refusal(length(3)), "incomplete");
  expect_mentions(refusal(length(1)), "ends too early");
}

TEST_F(SafetensorsTest, EveryTruncationIsAnError) {
  const std::string whole =
      SafetensorsBuilder().member("__metadata__", R"({"a":"b"})").tensor("t", 2, 3).tensor("u", 1, 1).header() + std::string(14, 'x');
  EXPECT_EQ(refusal(whole), "");
  for (std::size_t length = whole.size(); length-- > 0;) EXPECT_NE(refusal(whole.substr(0, length)), "") << length;
  expect_mentions(refusal(whole + "x"), "1 bytes belong to nothing");
}

TEST_F(SafetensorsTest, WhatIsNoJsonOfTheFormatIsRefused) {
  const auto json = [this](const std::string& text) { return refusal(SafetensorsBuilder::with_length(text)); };
  expect_mentions(json("[]"), "begin with");
  expect_mentions(json(" {}"), "begin with");
  expect_mentions(json("{} x"), "follows the end");
  expect_mentions(json("{}{}"), "follows the end");
  expect_mentions(json("{]"), "at byte 9");
  expect_mentions(json("{\"t\":1}"), "tensor t is no object");
  expect_mentions(json("{\"t\":[]}"), "tensor t is no object");
  expect_mentions(json("{\"\xff\":{}}"), "at byte 10");
  expect_mentions(json("{\"t\":{\"dtype\":{}}}"), "no string");
  expect_mentions(json("{\"" + std::string(kMaxSafetensorsNameBytes + 1, 'n') + "\":{}}"), "longer than");
  expect_mentions(json(R"({"__metadata__":[]})"), "no object");
  expect_mentions(json(R"({"__metadata__":{"a":1}})"), "no string");
  expect_mentions(json(R"({"__metadata__":{"a":{}}})"), "no string");
  expect_mentions(json(R"({"__metadata__":{"a":"1","a":"2"}})"), "a second time");
  expect_mentions(json(R"({"__metadata__":{},"__metadata__":{}})"), "a second time");
  std::string deep = R"({"t":{"shape":)";
  for (int i = 0; i < 100'000; ++i) deep += '[';
  EXPECT_NE(json(deep), "");
}

TEST_F(SafetensorsTest, WrongFieldsAreRefused) {
  EXPECT_EQ(refusal_of(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})"), "");
  EXPECT_EQ(refusal_of(R"({"data_offsets":[0,8],"shape":[2],"dtype":"F32"})"), "");
  expect_mentions(refusal_of(R"({"shape":[2],"data_offsets":[0,8]})"), "no dtype");
  expect_mentions(refusal_of(R"({"dtype":"F32","data_offsets":[0,8]})"), "no shape");
  expect_mentions(refusal_of(R"({"dtype":"F32","shape":[2]})"), "no data_offsets");
  expect_mentions(refusal_of(R"({"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]})"), "shape a second time");
  expect_mentions(refusal_of(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8],"stride":[1]})"), "unknown field stride");
  expect_mentions(refusal_of(R"({"dtype":"F33","shape":[2],"data_offsets":[0,8]})"), "F33");
  expect_mentions(refusal_of(R"({"dtype":3,"shape":[2],"data_offsets":[0,8]})"), "no string");
  for (const char* shape : {"-2", "2.0", "\"2\"", "null", "[2]", "{}", "18446744073709551616", "1e1"}) {
    expect_mentions(refusal_of(std::string(R"({"dtype":"F32","shape":[)") + shape + R"(],"data_offsets":[0,8]})"), "no array of whole numbers");
  }
  expect_mentions(refusal_of(R"({"dtype":"F32","shape":2,"data_offsets":[0,8]})"), "no array of whole numbers");
  expect_mentions(refusal_of(R"({"dtype":"F32","shape":{},"data_offsets":[0,8]})"), "no array of whole numbers");
  expect_mentions(refusal_of(R"({"dtype":"F32","shape":[2],"data_offsets":[8]})"), "no begin and end");
  expect_mentions(refusal_of(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})"), "no begin and end");
  expect_mentions(refusal_of(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8,8]})"), "more than 2");
  std::string ones = "1";
  for (std::size_t i = 0; i < kMaxSafetensorsDimensions; ++i) ones += ",1";
  expect_mentions(refusal(SafetensorsBuilder().tensor_raw("t", "F64", ones, "0,8"), 8), "more than 64");
}

TEST_F(SafetensorsTest, HostileSizesAndPlacesAreRefused) {
  const auto one = [this](const std::string& dtype, const std::string& shape, const std::string& offsets, std::uint64_t data_bytes = 8) {
    return refusal(SafetensorsBuilder().tensor_raw("t", dtype, shape, offsets), data_bytes);
  };
  expect_mentions(one("F32", "4294967296,4294967296", "0,0"), "overflows");
  expect_mentions(one("F32", "0,4294967296,4294967296", "0,0", 0), "overflows");
  expect_mentions(one("F32", "4611686018427387904", "0,0"), "overflows");
  expect_mentions(one("F32", "3", "0,8"), "8 bytes by its data_offsets, but 12");
  expect_mentions(one("F32", "2", "8,16", 16), "holes");
  expect_mentions(one("U8", "9", "0,9"), "incomplete");
  expect_mentions(one("U8", "1", "18446744073709551614,18446744073709551615"), "holes");
  expect_mentions(one("U8", "18446744073709551615", "0,18446744073709551615"), "overflows");
  SafetensorsBuilder pair;
  expect_mentions(refusal(pair.tensor_raw("a", "U8", "4", "0,4").tensor_raw("b", "U8", "4", "2,6"), 6), "overlap");
  pair = {};
  expect_mentions(refusal(pair.tensor_raw("a", "U8", "4", "0,4").tensor_raw("b", "U8", "4", "0,4"), 4), "overlap");
  pair = {};
  expect_mentions(refusal(pair.tensor_raw("a", "U8", "4", "0,4").tensor_raw("b", "U8", "4", "5,9"), 9), "holes");
  pair = {};
  expect_mentions(refusal(pair.tensor_raw("a", "U8", "4", "0,4").tensor_raw("a", "U8", "4", "4,8"), 8), "there twice");
}

TEST_F(SafetensorsTest, HugeCountsEndAtTheirBounds) {
  std::string many = "{";
  for (std::size_t i = 0; i <= kMaxSafetensorsTensors; ++i) many += fmt::format(R"("{}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}},)", i);
  expect_mentions(refusal(SafetensorsBuilder::with_length(many)), "more than 262144 tensors");
  many = R"({"__metadata__":{)";
  for (std::size_t i = 0; i <= kMaxSafetensorsNotes; ++i) many += fmt::format(R"("{}":"",)", i);
  expect_mentions(refusal(SafetensorsBuilder::with_length(many)), "more than 65536 keys");
}

TEST_F(SafetensorsTest, DamagedBytesNeverCrash) {
  const std::string whole =
      SafetensorsBuilder().member("__metadata__", R"({"a":"b"})").tensor("t", 2, 3).tensor("u", 1, 1).header() + std::string(14, 'x');
  std::mt19937 random(7);  // NOLINT: the same damage each time
  int refused = 0;
  for (int round = 0; round < 600; ++round) {
    std::string bytes = whole;
    for (int i = 0; i < 3; ++i) bytes[random() % bytes.size()] = static_cast<char>(random());
    refused += refusal(bytes).empty() ? 0 : 1;
  }
  EXPECT_GT(refused, 300);
}

TEST_F(SafetensorsTest, OtherThanRegularFilesAreRefused) {
  EXPECT_EQ(read_safetensors_header(directory_ / "absent").error().kind, base::ErrorKind::not_found);
  expect_mentions(read_safetensors_header(directory_.path()).error().message, "regular file");
}

}  // namespace
}  // namespace thaw::node
