#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "unit/node/agent_harness.h"
#include "unit/node/weights_files.h"

namespace thaw::node::test {
namespace {

constexpr std::uint64_t kMiB = 1ULL << 20;
constexpr int kAttempts = 100;

/// A node whose models lie on a disk.
class AgentWeights : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = cannot_sandbox(); !why.empty()) GTEST_SKIP() << why;
    node.config().settings.max_concurrent_starts = 1;
    const auto opened = node.open();
    ASSERT_TRUE(opened.ok()) << opened.error().message;
  }
  void TearDown() override {
    node.close();
    EXPECT_EQ(traces_of(node.data_dir()), std::vector<std::string>());
  }

  /// A cold model of about this size, nearly all of it a hole.
  wire::StartInstance cold_start(const std::string& name, std::uint64_t bytes, std::vector<std::string> engine_args = {}) {
    auto command = node.start_command(std::move(engine_args));
    command.model.source.path = directory_ / name;
    std::filesystem::copy_file(node.model_path(), command.model.source.path, std::filesystem::copy_options::overwrite_existing);
    std::filesystem::resize_file(command.model.source.path, bytes);
    const Fd fd(::open(command.model.source.path.c_str(), O_RDONLY | O_CLOEXEC));
    EXPECT_EQ(::fsync(fd.get()), 0);
    EXPECT_TRUE(make_cold(command.model.source.path));
    return command;
  }

  TestNode node{spec::SandboxKind::none};

 private:
  DiskDirectory directory_;
};

TEST_F(AgentWeights, AreReadBesideTheStart) {
  const auto command = cold_start("cold", 24 * kMiB);
  node.agent().submit(command);
  const auto weights = node.events().wait<wire::InstanceWeights>(command.instance);
  ASSERT_TRUE(weights);
  EXPECT_EQ(weights->phase.name, "weights");
  EXPECT_GE(weights->phase.start, base::Duration::zero());
  EXPECT_GT(weights->phase.duration, base::Duration::zero());
  EXPECT_GT(weights->phase.bytes->read, 16 * kMiB) << "its header may have been there already";
  EXPECT_EQ(weights->phase.bytes->read + weights->phase.bytes->resident, 24 * kMiB);
  EXPECT_EQ(node.agent().weights_read().read_bytes, weights->phase.bytes->read);
  EXPECT_TRUE(node.events().wait<wire::InstanceReady>(command.instance));

  auto again = command;
  again.instance = node.start_command().instance;
  node.agent().submit(again);
  const auto warm = node.events().wait<wire::InstanceWeights>(again.instance);
  ASSERT_TRUE(warm);
  EXPECT_EQ(warm->phase.duration, base::Duration::zero());
  EXPECT_EQ(warm->phase.bytes->read, 0U);
  EXPECT_EQ(warm->phase.bytes->resident, 24 * kMiB);
}

TEST_F(AgentWeights, AreReadWhileAStartWaitsForItsTurn) {
  const auto first = cold_start("hangs", kMiB, {"--fake-hang-start"});
  const auto second = cold_start("waits", 8 * kMiB);
  node.agent().submit(first);
  ASSERT_TRUE(eventually([&] { return node.agent().usage(first.instance).ok(); }));
  node.agent().submit(second);
  EXPECT_TRUE(node.events().wait<wire::InstanceWeights>(second.instance));
  EXPECT_FALSE(node.agent().usage(second.instance).ok());
  EXPECT_FALSE(node.events().has<wire::InstanceReady>(second.instance));
}

TEST_F(AgentWeights, ThatNobodyNeedsAnyMoreAreNotRead) {
  // However fast the workers and slow this thread, one of many must be cut short.
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const auto command = cold_start("huge", 256 * kMiB, {"--fake-hang-start"});
    node.agent().submit(command);
    node.stop(command.instance);
    ASSERT_TRUE(eventually([&] { return node.agent().weights_read().under_way == 0; }));
    ASSERT_TRUE(node.events().wait<wire::InstanceGone>(command.instance));
    if (!node.events().has<wire::InstanceWeights>(command.instance)) return;
  }
  ADD_FAILURE() << "no fill was cut short";
}

TEST_F(AgentWeights, AreSharedByTheStartsOfAModel) {
  auto first = cold_start("shared", 128 * kMiB, {"--fake-hang-start"});
  auto second = first;
  second.instance = node.start_command().instance;
  node.agent().submit(first);
  node.agent().submit(second);
  node.stop(first.instance);
  const auto weights = node.events().wait<wire::InstanceWeights>(second.instance);
  ASSERT_TRUE(weights) << "the other still needed them";
  EXPECT_LE(node.agent().weights_read().read_bytes, 128 * kMiB);
}

TEST_F(AgentWeights, ThatCannotBeReadAreTheEnginesToComplainOf) {
  auto command = node.start_command();
  command.model.source.path = "/nowhere/model.gguf";
  node.agent().submit(command);
  const auto down = node.events().wait<wire::InstanceDown>(command.instance);
  ASSERT_TRUE(down);
  EXPECT_NE(down->detail.find("/nowhere/model.gguf"), std::string::npos) << down->detail;
  ASSERT_TRUE(node.events().wait<wire::InstanceGone>(command.instance));
  EXPECT_FALSE(node.events().has<wire::InstanceWeights>(command.instance));
}

}  // namespace
}  // namespace thaw::node::test
