#include <gtest/gtest.h>

#include <random>

#include "node/weights/pipeline/plan.h"

namespace thaw::node::pipeline {
namespace {

constexpr std::uint64_t kKiB = 1024;
constexpr std::uint64_t kMiB = 1024 * kKiB;

TensorPart part(std::uint64_t offset, std::uint64_t bytes, std::uint32_t file = 0) {
  TensorPart part;
  part.file = file;
  part.offset = offset;
  part.row_bytes = bytes;
  part.destination = 1;
  return part;
}

/// Columns of a matrix: `rows` of `row_bytes` each, `stride` apart.
TensorPart columns(std::uint64_t offset, std::uint64_t row_bytes, std::uint64_t rows, std::uint64_t stride) {
  TensorPart shard = part(offset, row_bytes);
  shard.rows = rows;
  shard.file_stride = stride;
  return shard;
}

Plan plan_of(std::vector<TensorPart> tensors, std::vector<std::uint64_t> file_bytes = {100 * kMiB}) {
  std::vector<std::string> files;
  for (std::size_t i = 0; i < file_bytes.size(); ++i) files.push_back("file" + std::to_string(i));
  auto plan = Plan::make(files, file_bytes, std::move(tensors));
  EXPECT_TRUE(plan.ok()) << plan.error().message;
  return std::move(plan).value();
}

std::string error_of(std::vector<TensorPart> tensors, std::uint64_t file_bytes = 100 * kMiB) {
  const auto plan = Plan::make({"file0"}, {file_bytes}, std::move(tensors));
  if (plan.ok()) return "";
  EXPECT_EQ(plan.error().kind, base::ErrorKind::invalid);
  return plan.error().message;
}

TEST(WeightsPlan, ReadsEachByteOnceInAlignedRanges) {
  // Two shards of one tensor, an overlap, a neighbour within the gap, and one far off.
  const Plan plan =
      plan_of({part(5000, 10'000), part(15'000, 10'000), part(6000, 100), part(30'000, 1), part(50 * kMiB + 7, 20)});
  ASSERT_EQ(plan.ranges().size(), 2U);
  EXPECT_EQ(plan.ranges()[0].offset, 4096U);
  EXPECT_EQ(plan.ranges()[0].bytes, 30'001U - 4096U);
  EXPECT_EQ(plan.ranges()[1].offset, 50 * kMiB);
  EXPECT_EQ(plan.ranges()[1].bytes, 27U);
  EXPECT_EQ(plan.total_bytes(), 10'000U + 10'000U + 100U + 1U + 20U);
  EXPECT_EQ(plan.order(), (std::vector<std::uint32_t>{0, 2, 1, 3, 4}));
  EXPECT_EQ(plan.bytes_before_tensor(0), 5000U - 4096U);
  EXPECT_EQ(plan.bytes_before_tensor(4), 30'001U - 4096U + 7U);
}

TEST(WeightsPlan, FilesFollowEachOther) {
  const Plan plan = plan_of({part(0, 10, 1), part(0, 10, 0)}, {kMiB, kMiB});
  ASSERT_EQ(plan.ranges().size(), 2U);
  EXPECT_EQ(plan.ranges()[0].path, "file0");
  EXPECT_EQ(plan.order(), (std::vector<std::uint32_t>{1, 0}));
  EXPECT_EQ(plan.bytes_before_tensor(0), 10U);
}

TEST(WeightsPlan, RowsFarApartAreReadWithoutWhatLiesBetween) {
  const Plan near = plan_of({columns(0, kKiB, 100, 4 * kKiB)});
  EXPECT_EQ(near.ranges().size(), 1U);
  const Plan far = plan_of({columns(0, kKiB, 10, 2 * kMiB)});
  EXPECT_EQ(far.ranges().size(), 10U);
}

TEST(WeightsPlan, NeverMoreRangesThanTheReaderTakes) {
  std::vector<TensorPart> tensors;
  for (std::uint64_t i = 0; i < 10'000; ++i) tensors.push_back(part(i * 300 * kKiB, 10));
  const Plan plan = plan_of(std::move(tensors), {10'000 * 300 * kKiB});
  EXPECT_LE(plan.ranges().size(), DirectReader::kMaxRanges);
  EXPECT_GE(plan.ranges().size(), 1U);
}

TEST(WeightsPlan, NumbersThatCannotBeAreRefused) {
  EXPECT_NE(error_of({part(0, 101)}, 100).find("tensor 0 of the list: it ends at byte 101 of file0, which has 100"),
            std::string::npos);
  EXPECT_NE(error_of({part(UINT64_MAX, 1)}).find("too large"), std::string::npos);
  EXPECT_NE(error_of({part(1, UINT64_MAX)}).find("too large"), std::string::npos);
  EXPECT_NE(error_of({columns(0, 1ULL << 32, 1ULL << 32, 1ULL << 32)}).find("too large"), std::string::npos);
  EXPECT_NE(error_of({columns(0, 2, UINT64_MAX / 2 + 2, 2)}).find("too large"), std::string::npos);
  EXPECT_NE(error_of({columns(0, 100, 2, 99)}).find("overlap"), std::string::npos);
  EXPECT_NE(error_of({part(0, 1, 1)}).find("no file 1"), std::string::npos);
  TensorPart device = part(0, 1);
  device.device = -2;
  EXPECT_NE(error_of({device}).find("no device -2"), std::string::npos);
  EXPECT_EQ(error_of({part(UINT64_MAX, 0), columns(5, 1, 0, 0)}), "") << "nothing is nowhere";
}

/// Cuts a file into chunks as the reader would, and puts the pieces together again.
TEST(WeightsPlan, PiecesOfAnyChunksAreTheTensors) {
  std::mt19937 random(7);  // NOLINT(cert-msc51-cpp): the same every time
  const auto below = [&](std::uint64_t bound) {
    return std::uniform_int_distribution<std::uint64_t>(0, bound - 1)(random);
  };
  constexpr std::uint64_t kFileBytes = 200'000;
  std::vector<std::byte> file(kFileBytes);
  for (auto& byte : file) byte = static_cast<std::byte>(below(256));
  for (int round = 0; round < 200; ++round) {
    std::vector<TensorPart> tensors;
    for (std::uint64_t i = 0, count = 1 + below(8); i < count; ++i) {
      TensorPart tensor;
      tensor.row_bytes = 1 + below(round % 2 == 0 ? 5000 : 20);
      tensor.rows = 1 + below(10);
      tensor.file_stride = tensor.row_bytes + below(3000);
      tensor.destination_stride = tensor.row_bytes + below(2) * 13;
      tensor.offset = below(kFileBytes - tensor.end());
      tensor.destination = 1;
      tensors.push_back(tensor);
    }
    const Plan plan = plan_of(tensors, {kFileBytes});
    std::vector<std::vector<std::byte>> memory;
    for (const TensorPart& tensor : plan.tensors()) memory.emplace_back(tensor.destination_stride * tensor.rows);
    std::vector<std::uint64_t> arrived(tensors.size());
    const std::uint64_t chunk_bytes = 4096 * (1 + below(8));
    for (std::size_t range = 0; range < plan.ranges().size(); ++range) {
      const ReadRange& whole = plan.ranges()[range];
      for (std::uint64_t at = whole.offset; at < whole.offset + whole.bytes; at += chunk_bytes) {
        ReadChunk chunk;
        chunk.range = range;
        chunk.offset = at;
        chunk.bytes = std::span(file).subspan(at, std::min(chunk_bytes, whole.offset + whole.bytes - at));
        std::vector<Piece> pieces;
        plan.cut(chunk, pieces);
        for (const Piece& piece : pieces) {
          arrived[piece.tensor] += piece.bytes();
          for (std::uint64_t row = 0; row < piece.rows; ++row) {
            const std::uint64_t from = piece.chunk_offset + row * piece.chunk_stride;
            ASSERT_LE(from + piece.row_bytes, chunk.bytes.size());
            std::copy_n(chunk.bytes.begin() + static_cast<std::ptrdiff_t>(from), piece.row_bytes,
                        memory[piece.tensor].begin() +
                            static_cast<std::ptrdiff_t>(piece.destination_offset + row * piece.destination_stride));
          }
        }
      }
    }
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const TensorPart& tensor = plan.tensors()[i];
      ASSERT_EQ(arrived[i], tensor.bytes()) << "no byte twice, none missing";
      for (std::uint64_t row = 0; row < tensor.rows; ++row) {
        const auto from = file.begin() + static_cast<std::ptrdiff_t>(tensor.offset + row * tensor.file_stride);
        ASSERT_TRUE(std::equal(from, from + static_cast<std::ptrdiff_t>(tensor.row_bytes),
                               memory[i].begin() + static_cast<std::ptrdiff_t>(row * tensor.destination_stride)));
      }
    }
  }
}

}  // namespace
}  // namespace thaw::node::pipeline
