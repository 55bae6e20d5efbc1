#include "store/usage_pack.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace thaw::store {
namespace {

PackedRow some(std::uint64_t seq) {
  return {.seq = seq, .arrived_unix_ms = 1'795'490'286'784, .total_ms = 312, .tenant = 1, .key = 3, .model = 17, .outcome = 1, .way = 2, .dispatched = true,
          .status = 200, .prompt_tokens = 46, .completion_tokens = 24, .wait_us = 12, .service_us = 68'900, .start_us = 0};
}

std::vector<PackedRow> unpacked(std::string_view bytes) {
  std::vector<PackedRow> rows;
  const base::Status status = unpack_rows(bytes, [&](const PackedRow& row) { rows.push_back(row); });
  EXPECT_TRUE(status.ok()) << status.error().message;
  return rows;
}

TEST(UsagePack, IsReadAsItWasWritten) {
  std::vector<PackedRow> rows{some(1ULL << 40U | 7), some(1ULL << 40U | 3), {}};
  PackedRow most = some(UINT64_MAX);
  most.arrived_unix_ms = INT64_MIN;
  most.total_ms = -5;
  most.tenant = most.key = most.model = most.wait_us = most.service_us = most.start_us = UINT64_MAX;
  most.prompt_tokens = most.completion_tokens = UINT32_MAX;
  most.status = UINT16_MAX;
  most.outcome = 4;
  most.way = 3;
  rows.push_back(most);
  most.arrived_unix_ms = INT64_MAX;
  most.seq = 0;
  rows.push_back(most);
  RowPacker packer;
  for (int round = 0; round < 2; ++round) {
    packer.clear();
    for (const PackedRow& row : rows) packer.add(row);
    EXPECT_EQ(packer.rows(), rows.size());
    EXPECT_EQ(unpacked(packer.bytes()), rows);
  }
}

TEST(UsagePack, ARequestTakesFewBytes) {
  RowPacker packer;
  constexpr std::size_t kRows = 1000;
  for (std::size_t i = 0; i < kRows; ++i) packer.add(some(1ULL << 40U | i));
  EXPECT_LT(packer.bytes().size(), 18 * kRows);
}

TEST(UsagePack, WhateverItsBytesAreIsReadToTheirEndOrRefused) {
  EXPECT_FALSE(unpack_rows("", [](const PackedRow&) {}).ok());
  EXPECT_FALSE(unpack_rows("\x02", [](const PackedRow&) {}).ok());
  EXPECT_TRUE(unpack_rows("\x01", [](const PackedRow&) {}).ok());
  EXPECT_FALSE(unpack_rows("\x01\x02", [](const PackedRow&) {}).ok());
  EXPECT_FALSE(unpack_rows("\x01" + std::string(20, '\xff'), [](const PackedRow&) {}).ok()) << "a number without end";
  std::mt19937 random(1);  // NOLINT: the same every time
  for (int round = 0; round < 2000; ++round) {
    std::string bytes(1, 1);
    for (std::size_t i = random() % 60; i > 0; --i) bytes += static_cast<char>(random() % (round % 2 == 0 ? 128 : 256));
    std::size_t rows = 0;
    (void)unpack_rows(bytes, [&](const PackedRow& row) {
      ++rows;
      EXPECT_LE(row.outcome, 4);
    });
    EXPECT_LE(rows, bytes.size() / 13);
  }
}

}  // namespace
}  // namespace thaw::store
