#include <gtest/gtest.h>

#include "node/weights/need_order.h"
#include "node/weights/gguf.h"
#include "node/weights/page_fill.h"
#include "unit/node/agent_harness.h"
#include "unit/node/gguf_builder.h"
#include "unit/node/weights_files.h"

namespace thaw::node::test {
namespace {

using testing::GgufBuilder;
using testing::llama_model;

constexpr std::uint64_t kMiB = 1ULL << 20;
constexpr std::uint64_t kColumns = 1024;
constexpr std::uint64_t kRowsOfMiB = kMiB / 2 / kColumns;

class NeedOrderTest : public ::testing::Test {
 protected:
  /// Its output matrix comes first, as converters often write it.
  std::string output_first() {
    GgufBuilder builder;
    builder.text("general.architecture", "llama");
    builder.tensor("output.weight", 8 * kRowsOfMiB, kColumns).tensor("token_embd.weight", 4 * kRowsOfMiB, kColumns);
    for (int layer = 0; layer < 3; ++layer) builder.tensor("blk." + std::to_string(layer) + ".ffn_up.weight", 4 * kRowsOfMiB, kColumns);
    builder.tensor("output_norm.weight", 1, kColumns);
    builder.write(directory_ / "model.gguf");
    return directory_ / "model.gguf";
  }

  DiskDirectory directory_;
};

TEST(TurnOfTensor, GoesByLayersAndTheOutputIsLast) {
  EXPECT_EQ(turn_of_tensor("token_embd.weight"), 0U);
  EXPECT_EQ(turn_of_tensor("rope_freqs.weight"), 0U);
  EXPECT_EQ(turn_of_tensor("blk.0.attn_q.weight"), 1U);
  EXPECT_LT(turn_of_tensor("blk.2.attn_q.weight"), turn_of_tensor("blk.10.attn_q.weight"));
  EXPECT_LT(turn_of_tensor("blk.4294967293.x"), turn_of_tensor("output.weight"));
  EXPECT_EQ(turn_of_tensor("output_norm.weight"), turn_of_tensor("output.weight"));
  EXPECT_EQ(turn_of_tensor("blk.x.attn"), 0U);
  EXPECT_EQ(turn_of_tensor("blk.99999999999999.attn"), 0U);
}

TEST_F(NeedOrderTest, KnowsWhatComesLate) {
  const std::string file = output_first();
  const auto header = read_gguf_header(file);
  ASSERT_TRUE(header.ok());
  const NeedOrder order({file});
  EXPECT_TRUE(order.differs());
  EXPECT_EQ(order.turn(0, 0, header->data_offset), 0U) << "the header";
  const auto turn_at = [&](std::size_t tensor) { return order.turn(0, header->tensors[tensor].offset, header->tensors[tensor].bytes); };
  EXPECT_EQ(turn_at(0), UINT32_MAX);
  EXPECT_EQ(turn_at(1), 0U);
  EXPECT_EQ(turn_at(2), 1U);
  EXPECT_EQ(turn_at(4), 3U);
  const std::uint64_t border = header->tensors[1].offset;
  EXPECT_EQ(order.turn(0, border - kMiB, 2 * kMiB), 0U) << "across a border the earlier need counts";
  EXPECT_EQ(order.turn(1, 0, kMiB), 0U) << "no such file";
}

TEST_F(NeedOrderTest, LeavesFilesAloneThatAreInOrder) {
  llama_model().tensor("blk.0.a", 8, 64).tensor("blk.1.a", 8, 64).tensor("output.weight", 8, 64).write(directory_ / "model.gguf");
  EXPECT_FALSE(NeedOrder({directory_ / "model.gguf"}).differs());
}

TEST_F(NeedOrderTest, KnowsNothingOfOtherFiles) {
  const std::string other = write_weights(directory_ / "other", 100);
  const NeedOrder order({output_first(), other, directory_ / "none"});
  EXPECT_FALSE(order.differs());
  EXPECT_EQ(order.turn(0, 0, kMiB), 0U);
}

TEST_F(NeedOrderTest, PartsOfASplitModelAreOneOrder) {
  llama_model().tensor("blk.0.a", 8, 64).write(directory_ / "1");
  GgufBuilder().tensor("output.weight", 8, 64).write(directory_ / "2");
  EXPECT_FALSE(NeedOrder({directory_ / "1", directory_ / "2"}).differs());
  EXPECT_TRUE(NeedOrder({directory_ / "2", directory_ / "1"}).differs());
}

TEST_F(NeedOrderTest, AFillThatHasNoRoomForAllLeavesWhatIsNeededLast) {
  const std::string file = output_first();
  if (!make_cold(file)) GTEST_SKIP() << "/var/tmp is no disk";
  PageFiller filler(1, [] { return 18 * kMiB; });
  const FillHandle fill = filler.fill({file});
  ASSERT_TRUE(eventually([&] { return fill.progress().done; }));
  EXPECT_GT(fill.progress().left_bytes, 0U);

  const auto header = read_gguf_header(file);
  ASSERT_TRUE(header.ok());
  const Fd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  const auto resident = [&](std::size_t tensor) { return resident_bytes(fd.get(), header->tensors[tensor].offset, header->tensors[tensor].bytes).value_or(0); };
  for (std::size_t layer = 2; layer <= 4; ++layer) EXPECT_GE(resident(layer), header->tensors[layer].bytes) << header->tensors[layer].name;
  EXPECT_LT(resident(0), 4 * kMiB) << "the output matrix came before the layers";
}

}  // namespace
}  // namespace thaw::node::test
