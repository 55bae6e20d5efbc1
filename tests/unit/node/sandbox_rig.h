#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "node/engine/http_client.h"
#include "node/limits.h"
#include "node/sandbox/files.h"
#include "node/sandbox/pipes.h"
#include "unit/node/tier_driver_suite.h"

/// For drivers that make images of sandboxes: an engine in a real sandbox of one kind.
namespace thaw::node::test {

class SandboxRig : public TierRig {
 public:
  SandboxRig(spec::SandboxKind kind, std::string engine, std::string model, std::vector<std::string> args)
      : kind_(kind), engine_(std::move(engine)) {
    home_.directory = directory_.path();
    home_.label = "test-" + label_of(directory_.path());
    home_.init_path = std::string(THAW_BINARY_DIR) + "/thaw-init";
    home_.uid_base = 524'288;
    if (auto cgroups = CgroupHost::detect(); cgroups.ok()) home_.cgroups = *cgroups;
    std::filesystem::permissions(directory_.path(), std::filesystem::perms(0755));
    std::filesystem::create_directory(directory_.path() + "/models");
    if (model.empty()) model = write_tiny_model(directory_.path() + "/models");
    subject_.instance = base::InstanceId(1);
    subject_.model.name = base::ModelName("tiny");
    subject_.model.source.path = model;
    subject_.model.args = std::move(args);
    subject_.model.sandbox = kind;
    subject_.model.resources.device_memory_bytes = 128ULL << 20;
    subject_.device = base::DeviceId("cpu0");
    subject_.weight_files = {model};
    subject_.image = directory_.path() + "/image";
  }
  ~SandboxRig() override {
    sandbox_.reset();
    if (home_.cgroups) home_.cgroups->remove_parent(home_.label);
  }

  std::string cannot() const override {
    if (engine_.empty()) return "llama-server or its model is not there";
    return cannot_sandbox(kind_);
  }
  void start() override {
    sandbox_.reset();
    wire::StartInstance command;
    command.model = subject_.model;
    command.device = subject_.device;
    const auto launch = plan_launch(command, engine_, sandbox_maker().view(subject_.instance));
    ASSERT_TRUE(launch.ok()) << launch.error().message;
    const SandboxContents contents{launch->model_files, launch->engine_dir, {}};
    sandbox_ = taken(new_sandbox(contents));
    ASSERT_TRUE(sandbox_);
    const auto shown = sandbox_->expose(contents);
    ASSERT_TRUE(shown.ok()) << shown.error().message;
    ASSERT_TRUE(sandbox_->limit(limits_for(subject_.model, kind_)).ok());
    ASSERT_TRUE(sandbox_->run(launch->argv, launch->env).ok());
    ASSERT_TRUE(eventually([&] {
      return sandbox_->ended() || *probe_ready(sandbox_->socket_path(), base::Seconds(1)) == Readiness::yes;
    }));
    ASSERT_FALSE(sandbox_->ended()) << read_available(sandbox_->take_output().get());
  }
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
  void heal() override {
    std::error_code ignored;
    if (!blocked_.empty()) {
      subject_.image = blocked_;
      blocked_.clear();
    }
    if (std::filesystem::exists(kept())) {
      std::filesystem::remove_all(subject_.image, ignored);
      std::filesystem::rename(kept(), subject_.image, ignored);
    }
  }

  Sandbox& sandbox() { return *sandbox_; }
  std::unique_ptr<Sandbox> release() { return std::move(sandbox_); }
  [[nodiscard]] const SandboxHome& home() const { return home_; }
  [[nodiscard]] const std::string& image() const { return subject_.image; }

  TierOutcome down() { return driver().down(subject(), {now() + kPatience, {}}); }
  /// Of the image, as an instance of its own.
  TierOutcome up(std::uint64_t instance) {
    TierSubject from = subject_;
    from.instance = base::InstanceId(instance);
    return driver().up(from, {now() + kPatience, {}});
  }

 protected:
  virtual SandboxMaker& sandbox_maker() = 0;
  virtual base::Result<std::unique_ptr<Sandbox>> new_sandbox(const SandboxContents& contents) {
    return sandbox_maker().make(subject_.instance, contents);
  }
  static std::unique_ptr<Sandbox> taken(base::Result<std::unique_ptr<Sandbox>> made) {
    EXPECT_TRUE(made.ok()) << made.error().message;
    return made.ok() ? std::move(made).value() : nullptr;
  }
  [[nodiscard]] std::map<std::string, std::string> engines() const { return {{"llama.cpp", engine_}}; }

  // --- faults

  /// Until heal() images go to `path`.
  void divert_image(const std::string& path) {
    blocked_ = subject_.image;
    subject_.image = path;
  }
  void block_image() { divert_image("/proc/nowhere/image"); }  // nothing can be made there
  /// Until heal(): those of the image's files that begin with `prefix` end in their middle.
  void shorten_image(const std::string& prefix = {}) {
    std::filesystem::copy(subject_.image, kept());
    for (const auto& entry : std::filesystem::directory_iterator(subject_.image))
      if (entry.path().filename().string().starts_with(prefix))
        std::filesystem::resize_file(entry, entry.file_size() / 2);
  }

  TempDir directory_;
  SandboxHome home_;
  TierSubject subject_;

 private:
  [[nodiscard]] std::string kept() const { return directory_.path() + "/kept"; }

  spec::SandboxKind kind_;
  std::string engine_;
  std::unique_ptr<Sandbox> sandbox_;
  std::string blocked_;  ///< where the image belongs, while it is sent elsewhere
};

/// Several replicas from one image at once, which answer as the one that it was made of.
inline std::vector<TierOutcome> bring_several_up(SandboxRig& rig) {
  constexpr std::size_t kReplicas = 3;
  std::vector<TierOutcome> outcomes(kReplicas);
  rig.start();
  if (::testing::Test::HasFatalFailure()) return {};
  const std::string said = rig.answer();
  EXPECT_FALSE(said.empty());
  const TierOutcome down = rig.down();
  EXPECT_TRUE(down.ok()) << down.error->message;
  EXPECT_EQ(down.rests, Rests::standby);
  EXPECT_GT(down.image_bytes, 0U);
  EXPECT_TRUE(rig.destroy().ok());

  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < kReplicas; ++i) threads.emplace_back([&, i] { outcomes[i] = rig.up(10 + i); });
  for (std::thread& thread : threads) thread.join();
  for (TierOutcome& outcome : outcomes) {
    EXPECT_TRUE(outcome.ok()) << outcome.error->message;
    if (!outcome.ok()) return {};
    rig.adopt(std::move(outcome.sandbox));
    EXPECT_EQ(rig.answer(), said);
    outcome.sandbox = rig.release();
  }
  return outcomes;
}

}  // namespace thaw::node::test
