/// Images of a node: made in the background, replicas brought up from them, and every way in which one is of no use.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "node/sandbox/criu_info.h"
#include "unit/node/agent_harness.h"

namespace thaw::node::test {
namespace {

namespace fs = std::filesystem;

class AgentImages : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = cannot_sandbox(spec::SandboxKind::runsc); !why.empty()) GTEST_SKIP() << why;
    // A directory of its own: an image depends on every file beside its engine, and the build's change while tests run.
    const std::string engine = engine_.path() + "/fake-engine";
    fs::copy_file(std::string(THAW_BINARY_DIR) + "/fake-engine", engine);
    fs::permissions(engine_.path(), fs::perms(0755));
    node_ = std::make_unique<TestNode>();
    node_->config().engine_paths["llama.cpp"] = engine;
    const auto opened = node_->open();
    ASSERT_TRUE(opened.ok()) << opened.error().message;
  }
  void TearDown() override {
    if (!node_) return;
    node_->close();
    EXPECT_EQ(traces_of(node_->data_dir()), std::vector<std::string>());
    std::error_code none;
    for (const auto& entry : fs::directory_iterator(images(), none))
      EXPECT_FALSE(entry.path().filename().string().starts_with(".")) << entry.path() << " is half an image";
  }

  [[nodiscard]] std::string images() const { return node_->data_dir() + "/images"; }

  /// A start of a model whose engines run in gVisor.
  wire::StartInstance start_command(const std::string& image = {}) {
    wire::StartInstance command = node_->start_command({"--fake-poll"});
    command.model.sandbox = spec::SandboxKind::runsc;
    command.image = base::ImageId(image);
    return command;
  }
  wire::TakeSnapshot take_command(const std::string& image, std::uint64_t max_bytes = 64ULL << 20) {
    const wire::StartInstance start = start_command();
    return {base::ImageId(image), start.instance, start.model, start.device, kPatience, max_bytes};
  }
  /// Makes an image and waits until its replica is gone.
  wire::SnapshotTaken make(const std::string& image, std::uint64_t max_bytes = 64ULL << 20) {
    const wire::TakeSnapshot command = take_command(image, max_bytes);
    node_->agent().submit(command);
    EXPECT_TRUE(node_->events().wait<wire::InstanceGone>(command.instance));
    const auto taken = node_->events().wait<wire::SnapshotTaken>(command.instance);
    const auto failed = node_->events().wait<wire::SnapshotFailed>(command.instance);
    EXPECT_TRUE(taken) << (failed ? failed->reason : "no answer");
    return taken.value_or(wire::SnapshotTaken{});
  }
  wire::InstanceReady ready(const wire::StartInstance& command) {
    auto event = node_->events().wait<wire::InstanceReady>(command.instance);
    if (!event) {
      const auto down = node_->events().wait<wire::InstanceDown>(command.instance);
      ADD_FAILURE() << (down ? down->detail + "\n" + down->log_tail : "no answer");
    }
    return event.value_or(wire::InstanceReady{});
  }
  /// Starts from an image that is of no use any more: it comes up all the same, and the image goes.
  void expect_fall_back(const std::string& image, const std::string& because) {
    const wire::StartInstance command = start_command(image);
    node_->agent().submit(command);
    const wire::InstanceReady event = ready(command);
    EXPECT_EQ(event.way, wire::Way::start);
    EXPECT_NE(event.fell_back.find(because), std::string::npos) << event.fell_back;
    EXPECT_TRUE(http_get(event.socket_path, "/health").starts_with("HTTP/1.1 200"));
    const auto gone = node_->events().wait_image<wire::ImageGone>(base::ImageId(image));
    ASSERT_TRUE(gone);
    EXPECT_NE(gone->reason.find(because), std::string::npos) << gone->reason;
    EXPECT_GT(gone->freed_bytes, 0U);
    EXPECT_FALSE(fs::exists(images() + "/" + image));
  }

  TempDir engine_;
  std::unique_ptr<TestNode> node_;
};

TEST_F(AgentImages, SeveralReplicasComeUpFromOneAlsoAfterARestart) {
  const auto& drivers = node_->hello().drivers;
  const auto driver = std::find_if(drivers.begin(), drivers.end(),
                                   [](const auto& info) { return info.driver == wire::DriverKind::runsc; });
  ASSERT_NE(driver, drivers.end());
  EXPECT_TRUE(driver->snapshot) << driver->why_not;
  EXPECT_GT(node_->hello().image_budget_bytes, 0U);

  const wire::SnapshotTaken taken = make("tiny-1");
  EXPECT_EQ(taken.image.image.str(), "tiny-1");
  EXPECT_EQ(taken.image.model.str(), "tiny");
  EXPECT_GT(taken.image.bytes, 0U);
  for (const char* name : {"start", "warm-up", "checkpoint", "write"})
    EXPECT_TRUE(std::any_of(taken.phases.begin(), taken.phases.end(), [&](const auto& p) { return p.name == name; }))
        << name;

  for (int life = 0; life < 2; ++life) {
    std::vector<wire::StartInstance> commands;
    for (int i = 0; i < 3; ++i) commands.push_back(start_command("tiny-1"));
    for (const auto& command : commands) node_->agent().submit(command);
    for (const auto& command : commands) {
      const wire::InstanceReady event = ready(command);
      EXPECT_EQ(event.way, wire::Way::restore) << event.fell_back;
      EXPECT_EQ(event.fell_back, "");
      EXPECT_TRUE(http_get(event.socket_path, "/health").starts_with("HTTP/1.1 200"));
      EXPECT_TRUE(
          std::any_of(event.phases.begin(), event.phases.end(), [](const auto& p) { return p.name == "restore"; }));
    }
    node_->close();
    EXPECT_EQ(traces_of(node_->data_dir()), std::vector<std::string>());
    const auto opened = node_->open();
    ASSERT_TRUE(opened.ok()) << opened.error().message;
    ASSERT_EQ(node_->hello().images.size(), 1U);
    EXPECT_EQ(node_->hello().images[0].bytes, taken.image.bytes);
  }
}

TEST_F(AgentImages, ARestoredReplicaIsLikeAnyOther) {
  make("tiny-1");
  const wire::StartInstance command = start_command("tiny-1");
  node_->agent().submit(command);
  const wire::InstanceReady event = ready(command);
  ASSERT_EQ(event.way, wire::Way::restore) << event.fell_back;
  EXPECT_TRUE(node_->events().has<wire::FilesSeen>(command.instance));
  EXPECT_TRUE(node_->agent().usage(command.instance).ok());
  const std::string prompt = R"({"prompt":"fake:crash"})";
  http_send(event.socket_path, "POST /v1/completions HTTP/1.1\r\nHost: engine\r\nContent-Length: " +
                                   std::to_string(prompt.size()) + "\r\nConnection: close\r\n\r\n" + prompt);
  const auto down = node_->events().wait<wire::InstanceDown>(command.instance);
  ASSERT_TRUE(down);
  EXPECT_EQ(down->reason, wire::DownReason::crashed);
  EXPECT_TRUE(node_->events().wait<wire::InstanceGone>(command.instance));
}

TEST_F(AgentImages, AnotherModelFileIsAnotherModel) {
  make("tiny-1");
  std::ofstream(node_->model_path(), std::ios::app) << "more";
  expect_fall_back("tiny-1", "model file");
}

TEST_F(AgentImages, ADamagedOneFallsBackToAStart) {
  make("tiny-1");
  for (const auto& entry : fs::directory_iterator(images() + "/tiny-1")) {
    if (entry.path().filename().string().starts_with("manifest")) continue;
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(fs::file_size(entry) / 2));
    file << "damage";
  }
  expect_fall_back("tiny-1", "damaged");
}

TEST_F(AgentImages, OneThatIsNotThereFallsBackToAStart) {
  const wire::StartInstance command = start_command("nowhere");
  node_->agent().submit(command);
  const wire::InstanceReady event = ready(command);
  EXPECT_EQ(event.way, wire::Way::start);
  EXPECT_NE(event.fell_back.find("nowhere"), std::string::npos) << event.fell_back;
}

TEST_F(AgentImages, ADroppedOneIsGoneAndItsReplicasStay) {
  make("tiny-1");
  const wire::StartInstance command = start_command("tiny-1");
  node_->agent().submit(command);
  const wire::InstanceReady event = ready(command);
  node_->agent().submit(wire::DropImage{base::ImageId("tiny-1")});
  const auto gone = node_->events().wait_image<wire::ImageGone>(base::ImageId("tiny-1"));
  ASSERT_TRUE(gone);
  EXPECT_GT(gone->freed_bytes, 0U);
  EXPECT_TRUE(fs::is_empty(images()));
  EXPECT_TRUE(http_get(event.socket_path, "/health").starts_with("HTTP/1.1 200"));
  node_->agent().submit(wire::DropImage{base::ImageId("never-made")});
  EXPECT_TRUE(node_->events().wait_image<wire::ImageGone>(base::ImageId("never-made")));
}

TEST_F(AgentImages, TheBudgetIsKept) {
  const std::uint64_t bytes = make("tiny-1").image.bytes;
  ASSERT_GT(bytes, 0U);
  node_->close();
  node_->config().settings.image_budget_bytes = bytes + bytes / 2;
  ASSERT_TRUE(node_->open().ok());
  make("tiny-2", bytes + bytes / 4);
  const auto gone = node_->events().wait_image<wire::ImageGone>(base::ImageId("tiny-1"));
  ASSERT_TRUE(gone);
  EXPECT_NE(gone->reason.find("node.images.budget"), std::string::npos) << gone->reason;

  const wire::TakeSnapshot larger = take_command("tiny-3", 2 * bytes);
  node_->agent().submit(larger);
  const auto failed = node_->events().wait<wire::SnapshotFailed>(larger.instance);
  ASSERT_TRUE(failed);
  EXPECT_NE(failed->reason.find("node.images.budget"), std::string::npos) << failed->reason;

  const wire::TakeSnapshot smaller = take_command("tiny-4", bytes / 4);
  node_->agent().submit(smaller);
  const auto too_large = node_->events().wait<wire::SnapshotFailed>(smaller.instance);
  ASSERT_TRUE(too_large);
  EXPECT_NE(too_large->reason.find("reserved"), std::string::npos) << too_large->reason;
  EXPECT_TRUE(node_->events().wait<wire::InstanceGone>(smaller.instance));
}

TEST_F(AgentImages, StoppingItsReplicaGivesOneUp) {
  const wire::TakeSnapshot first = take_command("tiny-1");
  const wire::TakeSnapshot waiting = take_command("tiny-2");
  node_->agent().submit(first);
  node_->agent().submit(waiting);
  node_->stop(waiting.instance);
  node_->stop(first.instance);
  for (const auto& command : {first, waiting}) {
    EXPECT_TRUE(node_->events().wait<wire::SnapshotFailed>(command.instance)) << command.image.str();
    EXPECT_TRUE(node_->events().wait<wire::InstanceGone>(command.instance));
    EXPECT_FALSE(node_->events().has<wire::SnapshotTaken>(command.instance));
  }
  EXPECT_TRUE(fs::is_empty(images()));
}

TEST_F(AgentImages, ClosingTheNodeGivesUpWhatIsBeingMade) {
  const wire::TakeSnapshot command = take_command("tiny-1");
  node_->agent().submit(command);
  node_->close();
  EXPECT_TRUE(node_->events().has<wire::InstanceGone>(command.instance));
}

TEST_F(AgentImages, WithoutCriuAModelUnderRuncHasNone) {
  if (const auto criu = find_criu(); criu.ok() && examine_criu_at(*criu).ok()) GTEST_SKIP() << "criu works here";
  wire::TakeSnapshot command = take_command("tiny-1");
  command.model.sandbox.reset();  // the node's own kind, runc
  node_->agent().submit(command);
  const auto failed = node_->events().wait<wire::SnapshotFailed>(command.instance);
  ASSERT_TRUE(failed);
  EXPECT_NE(failed->reason.find("no images are made of runc sandboxes here"), std::string::npos) << failed->reason;
  EXPECT_NE(failed->reason.find("criu: "), std::string::npos) << failed->reason;
}

TEST_F(AgentImages, AnEngineThatDoesNotComeUpHasNone) {
  wire::TakeSnapshot command = take_command("tiny-1");
  command.model.args = {"--fake-fail-start"};
  node_->agent().submit(command);
  const auto failed = node_->events().wait<wire::SnapshotFailed>(command.instance);
  ASSERT_TRUE(failed);
  EXPECT_NE(failed->reason.find("did not start"), std::string::npos) << failed->reason;
  EXPECT_TRUE(node_->events().wait<wire::InstanceGone>(command.instance));
  EXPECT_TRUE(fs::is_empty(images()));
}

}  // namespace
}  // namespace thaw::node::test
