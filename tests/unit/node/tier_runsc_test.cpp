/// The runsc driver: images by gVisor, with the fake engine and with a real one.
#include <sys/mount.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <thread>

#include "node/engine/http_client.h"
#include "node/limits.h"
#include "node/sandbox/files.h"
#include "node/sandbox/pipes.h"
#include "node/tiers/runsc_driver.h"
#include "unit/node/tier_driver_suite.h"

namespace thaw::node::test {
namespace {

namespace fs = std::filesystem;

/// An engine in a gVisor sandbox. `ahead`: sandboxes, also those for restores, are made before their contents are
/// known.
class RunscRig : public TierRig {
 public:
  RunscRig(std::string engine, std::string model, std::vector<std::string> args, bool ahead = false)
      : engine_(std::move(engine)), ahead_(ahead) {
    if (!cannot().empty()) return;
    home_.directory = directory_.path();
    home_.label = "test-" + label_of(directory_.path());
    home_.init_path = std::string(THAW_BINARY_DIR) + "/thaw-init";
    home_.uid_base = 524'288;
    if (auto cgroups = CgroupHost::detect(); cgroups.ok()) home_.cgroups = *cgroups;
    fs::permissions(directory_.path(), fs::perms(0755));
    fs::create_directory(directory_.path() + "/models");
    if (model.empty()) model = write_tiny_model(directory_.path() + "/models");
    auto opened = RunscMaker::open(home_);
    EXPECT_TRUE(opened.ok()) << opened.error().message;
    if (!opened.ok()) return;
    maker_ = *std::move(opened);
    RunscDriver::Take take;
    if (ahead_) take = [this] { return taken(maker_->make_for_restore()); };
    driver_ = std::make_unique<RunscDriver>(maker_.get(), std::map<std::string, std::string>{{"llama.cpp", engine_}},
                                            probe_ready, take);
    subject_.instance = base::InstanceId(1);
    subject_.model.name = base::ModelName("tiny");
    subject_.model.source.path = model;
    subject_.model.args = std::move(args);
    subject_.model.sandbox = spec::SandboxKind::runsc;
    subject_.model.resources.device_memory_bytes = 128ULL << 20;
    subject_.device = base::DeviceId("cpu0");
    subject_.weight_files = {model};
    subject_.image = directory_.path() + "/image";
  }
  ~RunscRig() override {
    sandbox_.reset();
    if (home_.cgroups) home_.cgroups->remove_parent(home_.label);
  }

  std::string cannot() const override {
    if (engine_.empty()) return "llama-server or its model is not there";
    return cannot_sandbox(spec::SandboxKind::runsc);
  }
  void start() override {
    sandbox_.reset();
    wire::StartInstance command;
    command.model = subject_.model;
    command.device = subject_.device;
    const auto launch = plan_launch(command, engine_, maker_->view(subject_.instance));
    ASSERT_TRUE(launch.ok()) << launch.error().message;
    const SandboxContents contents{launch->model_files, launch->engine_dir, {}};
    sandbox_ = taken(ahead_ ? maker_->make_empty() : maker_->make(subject_.instance, contents));
    ASSERT_TRUE(sandbox_);
    const auto shown = sandbox_->expose(contents);
    ASSERT_TRUE(shown.ok()) << shown.error().message;
    ASSERT_TRUE(sandbox_->limit(limits_for(subject_.model, spec::SandboxKind::runsc)).ok());
    ASSERT_TRUE(sandbox_->run(launch->argv, launch->env).ok());
    ASSERT_TRUE(eventually([&] {
      return sandbox_->ended() || *probe_ready(sandbox_->socket_path(), base::Seconds(1)) == Readiness::yes;
    }));
    ASSERT_FALSE(sandbox_->ended()) << read_available(sandbox_->take_output().get());
  }
  TierDriver& driver() override { return *driver_; }
  TierSubject subject() override {
    TierSubject subject = subject_;
    subject.sandbox = sandbox_.get();
    return subject;
  }
  std::string answer() override {
    const auto answer = ask_engine(
        sandbox_->socket_path(),
        {"POST", "/v1/completions",
         R"({"prompt":"Once upon a time","max_tokens":8,"temperature":0,"cache_prompt":false,"stream":false})", true},
        now() + base::Seconds(20));
    if (!answer.ok() || answer->status != 200) return {};
    return body_of("HTTP/1.1 200\r\n\r\n" + answer->body);
  }
  bool rests() override { return false; }
  Holdings holds() override { return {}; }
  void kill_engine() override {
    sandbox_->kill();
    EXPECT_TRUE(eventually([&] { return sandbox_->ended(); }));
  }
  bool alive() override { return sandbox_ && !sandbox_->ended() && !group_is_empty(home_, sandbox_->name()); }
  base::Status destroy() override { return sandbox_ ? sandbox_->destroy() : base::Status(); }
  void adopt(std::unique_ptr<Sandbox> sandbox) override { sandbox_ = std::move(sandbox); }

  std::vector<TierFault> faults() override {
    using In = TierFault::In;
    return {
        {"the disk has no room", In::down, [this] { block_image(); }, {Rests::ready}},
        {"the disk is full before all is written", In::down, [this] { fill_disk(); }, {Rests::ready, Rests::lost}},
        {"no time for it", In::down, [] {}, {Rests::ready, Rests::lost}, base::Millis(1)},
        {"the image is cut short", In::up, [this] { shorten_image(); }, {Rests::standby}},
        {"no time to come up", In::up, [] {}, {Rests::standby}, base::Millis(20)},
    };
  }
  void heal() override {
    std::error_code ignored;
    if (!small_.empty()) {
      EXPECT_EQ(::umount2(small_.c_str(), MNT_DETACH), 0);
      small_.clear();
    }
    if (!blocked_.empty()) {
      subject_.image = blocked_;
      blocked_.clear();
    }
    if (fs::exists(kept_)) {
      fs::remove_all(subject_.image, ignored);
      fs::rename(kept_, subject_.image, ignored);
    }
  }

  RunscMaker& maker() { return *maker_; }
  RunscDriver& runsc() { return *driver_; }
  [[nodiscard]] const std::string& image() const { return subject_.image; }

 private:
  static std::unique_ptr<Sandbox> taken(base::Result<std::unique_ptr<Sandbox>> made) {
    EXPECT_TRUE(made.ok()) << made.error().message;
    return made.ok() ? std::move(made).value() : nullptr;
  }
  void block_image() {
    blocked_ = subject_.image;
    subject_.image = "/proc/nowhere/image";  // nothing can be made there
  }
  void fill_disk() {
    blocked_ = subject_.image;
    small_ = directory_.path() + "/small";
    fs::create_directory(small_);
    ASSERT_EQ(::mount("tmpfs", small_.c_str(), "tmpfs", 0, "size=32k"), 0);
    subject_.image = small_ + "/image";
  }
  void shorten_image() {
    kept_ = directory_.path() + "/kept";
    fs::copy(subject_.image, kept_);
    for (const auto& entry : fs::directory_iterator(subject_.image)) fs::resize_file(entry, entry.file_size() / 2);
  }

  TempDir directory_;
  std::string engine_;
  bool ahead_;
  SandboxHome home_;
  std::unique_ptr<RunscMaker> maker_;
  std::unique_ptr<RunscDriver> driver_;
  std::unique_ptr<Sandbox> sandbox_;
  TierSubject subject_;
  std::string blocked_;  ///< where the image belongs, while it is sent elsewhere
  std::string small_;    ///< a file system without room, mounted
  std::string kept_;
};

std::unique_ptr<RunscRig> fake_rig(bool ahead = false) {
  return std::make_unique<RunscRig>(std::string(THAW_BINARY_DIR) + "/fake-engine", "",
                                    std::vector<std::string>{"--fake-poll"}, ahead);
}

std::unique_ptr<RunscRig> real_rig() {
  const auto engine = real_engine();
  return std::make_unique<RunscRig>(engine.empty() ? "" : engine.front(), real_model(),
                                    std::vector<std::string>{"-c", "256", "-t", "1"});
}

INSTANTIATE_TEST_SUITE_P(Runsc, TierDriverSuite, ::testing::Values(TierRigMaker([] { return fake_rig(); })));
INSTANTIATE_TEST_SUITE_P(RunscAhead, TierDriverSuite, ::testing::Values(TierRigMaker([] { return fake_rig(true); })));

TEST(RunscDriver, WithoutRunscItSaysWhy) {
  const RunscDriver driver(base::Error{base::ErrorKind::not_found, "runsc is not installed; install it"}, {});
  EXPECT_FALSE(driver.capability().works);
  EXPECT_EQ(driver.capability().detail, "runsc is not installed");
  EXPECT_EQ(driver.capability().remedy, "install it");
  EXPECT_FALSE(driver.accepts({}).ok());
}

/// The real engine: several replicas from one image at once, which answer as the one that it was made of.
TEST(RunscDriver, SeveralComeUpFromOneImageAtOnce) {
  const auto rig = real_rig();
  if (const std::string why = rig->cannot(); !why.empty()) GTEST_SKIP() << why;
  rig->start();
  ASSERT_FALSE(::testing::Test::HasFatalFailure());
  const std::string said = rig->answer();
  ASSERT_FALSE(said.empty());
  const TierOutcome down = rig->driver().down(rig->subject(), {now() + base::Seconds(60), {}});
  ASSERT_TRUE(down.ok()) << down.error->message;
  EXPECT_EQ(down.rests, Rests::standby);
  EXPECT_GT(down.image_bytes, 0U);
  ASSERT_TRUE(rig->destroy().ok());

  constexpr int kReplicas = 3;
  std::vector<TierOutcome> outcomes(kReplicas);
  std::vector<std::thread> threads;
  for (int i = 0; i < kReplicas; ++i)
    threads.emplace_back([&, i] {
      TierSubject subject = rig->subject();
      subject.sandbox = nullptr;
      subject.instance = base::InstanceId(static_cast<std::uint64_t>(10 + i));
      outcomes[static_cast<std::size_t>(i)] = rig->driver().up(subject, {now() + base::Seconds(60), {}});
    });
  for (std::thread& thread : threads) thread.join();
  for (TierOutcome& outcome : outcomes) {
    ASSERT_TRUE(outcome.ok()) << outcome.error->message;
    rig->adopt(std::move(outcome.sandbox));
    EXPECT_EQ(rig->answer(), said);
    EXPECT_TRUE(rig->destroy().ok());
  }
}

}  // namespace
}  // namespace thaw::node::test
