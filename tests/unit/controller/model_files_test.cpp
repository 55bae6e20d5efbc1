#include "controller/model_files.h"

#include <algorithm>
#include <filesystem>

#include "store/store.h"
#include "unit/controller/harness.h"
#include "unit/temp_dir.h"

namespace thaw::controller::test {
namespace {

using Outcome = FileVerdict::Outcome;

const base::ModelName kModel("m");

wire::FileStamp stamp(std::uint64_t mtime, const char* path = "/models/m.gguf") { return {path, 10, mtime, 1}; }

/// Records on a real store; headers and digests are the test's.
class ModelFilesTest : public ControllerTest {
 protected:
  /// The files of a server's life. Several can follow each other on one store.
  struct Life {
    Life(ModelFilesTest& test, const std::string& database)
        : store(std::move(store::open_sqlite(database)).value()),
          store_worker(*test.loop_, 1),
          files_worker(*test.loop_, 1),
          files({.loop = *test.loop_,
                 .controller = *test.controller_,
                 .store = *store,
                 .store_worker = store_worker,
                 .files_worker = files_worker,
                 .metrics = test.metrics_,
                 .send = [&test](wire::NodeCommand command) { test.asked_.push_back(std::get<wire::HashFile>(command)); },
                 .inspect =
                     [&test](const spec::ModelSpec& /*spec*/) -> base::Result<node::ModelFacts> {
                       ++test.inspections_;
                       return test.facts_;
                     }}) {
      EXPECT_TRUE(files.load().ok());
    }
    std::unique_ptr<store::Store> store;
    net::Worker store_worker;
    net::Worker files_worker;
    ModelFiles files;
  };

  [[nodiscard]] std::string database() const { return directory_.file("t.db"); }

  void deploy(Life& life, bool memory_estimated = false) {
    ModelEntry model = entry("m");
    model.memory_estimated = memory_estimated;
    model.weights_bytes = 10;
    ASSERT_TRUE(life.store->put_model({kModel, "{}", 1, 1, memory_estimated}).ok());
    controller_->deploy(std::move(model));
    life.files.deployed(kModel, {stamp(1)});
  }
  /// A start of the model, as its node tells of it.
  net::Task<std::uint64_t> start() {
    (void)orders();
    arrive("m");
    EXPECT_TRUE(co_await until([this] { return ordered(); }));
    co_return std::get<wire::StartInstance>(sent_.back()).instance.value();
  }
  void seen(std::uint64_t instance, const wire::FileStamp& file) { controller_->node_event(wire::FilesSeen{base::InstanceId(instance), {file}}); }
  void changed(std::uint64_t instance, const wire::FileStamp& file, bool gone = false) {
    controller_->node_event(wire::FilesChanged{base::InstanceId(instance), file, gone ? "it is gone" : "it was written to", gone});
  }
  /// Answers the only open question.
  void answer(const wire::FileStamp& file, const std::string& sha256) {
    ASSERT_EQ(asked_.size(), 1U);
    const auto question = std::exchange(asked_, {}).front();
    EXPECT_EQ(question.path, file.path);
    controller_->node_event(wire::FileHashed{question.id, file, sha256, sha256.empty() ? "cannot read it" : ""});
  }
  [[nodiscard]] double metric(const std::string& line) {
    const std::string text = metrics_.scrape({});
    const auto at = text.find("\n" + line + " ");
    return at == std::string::npos ? -1 : std::stod(text.substr(at + line.size() + 2));
  }

  thaw::test::TempDir directory_;
  std::vector<wire::HashFile> asked_;
  node::ModelFacts facts_;
  std::atomic<int> inspections_ = 0;
};

TEST_F(ModelFilesTest, TheFirstLoadIsHashedOnceAndKeptOverARestart) {
  play([this]() -> net::Task<void> {
    {
      Life life(*this, database());
      deploy(life);
      const std::uint64_t instance = co_await start();
      seen(instance, stamp(1));
      EXPECT_TRUE(asked_.empty()) << "not before it is ready";
      ready(instance);
      EXPECT_FALSE(asked_.at(0).urgent);
      controller_->node_event(wire::InstanceReady{base::InstanceId(instance), socket_path_, {}});
      answer(stamp(1), "a");
      EXPECT_EQ(life.files.files(kModel).at(0).deployed.sha256, "a");
      controller_->node_event(wire::InstanceReady{base::InstanceId(instance), socket_path_, {}});
      EXPECT_TRUE(asked_.empty()) << "it is known";
      EXPECT_EQ(inspections_, 0);
      co_await life.store_worker.run([] { return 0; });  // all is stored
    }
    Life next(*this, database());
    EXPECT_EQ(next.files.files(kModel).at(0).deployed.sha256, "a");
    EXPECT_EQ(next.files.changed_files(kModel), 0U);
  });
}

TEST_F(ModelFilesTest, AChangeUnderAReplicaReplacesItAndIsAdopted) {
  play([this]() -> net::Task<void> {
    Life life(*this, database());
    deploy(life, true);
    const std::uint64_t first = co_await start();
    seen(first, stamp(1));
    ready(first);
    answer(stamp(1), "a");
    (void)orders();

    facts_.weights_bytes = 20;
    facts_.estimated_device_bytes = kModelBytes * 2;
    facts_.estimated_loading_bytes = kModelBytes / 2;
    changed(first, stamp(2));
    EXPECT_EQ(orders(), "");  // its request ends first
    EXPECT_EQ(life.files.changed_files(kModel), 1U);
    EXPECT_EQ(metric("thaw_model_file_changes_total{model=\"m\"}"), 1);
    for (const auto& view : controller_->scheduler().instances()) EXPECT_EQ(view.reason, "/models/m.gguf changed: it was written to");
    EXPECT_TRUE(co_await until([this] { return controller_->find(kModel)->weights_bytes == 20; }));
    EXPECT_EQ(controller_->find(kModel)->spec.resources.device_memory_bytes, kModelBytes * 2);
    EXPECT_EQ(controller_->find(kModel)->spec.resources.loading_memory_bytes, kModelBytes / 2);
    co_await life.store_worker.run([] { return 0; });
    EXPECT_NE(life.store->models()->at(0).spec_json.find(std::to_string(kModelBytes * 2)), std::string::npos);
    EXPECT_TRUE(life.store->models()->at(0).memory_estimated);

    crash(first);  // gone
    const std::uint64_t second = co_await start();
    seen(second, stamp(2));
    EXPECT_EQ(inspections_, 1) << "known by now";
    ready(second);
    answer(stamp(2), "b");
    const KnownFile& file = life.files.files(kModel).at(0);
    EXPECT_EQ(file.changed->sha256, "b");
    EXPECT_EQ(file.deployed.sha256, "a");
  });
}

TEST_F(ModelFilesTest, AChangeWhileTheModelSleptIsSeenByItsNextStart) {
  play([this]() -> net::Task<void> {
    Life life(*this, database());
    deploy(life);
    facts_.weights_bytes = 10;
    const std::uint64_t instance = co_await start();
    seen(instance, stamp(2));
    EXPECT_EQ(life.files.changed_files(kModel), 1U);
    EXPECT_EQ(life.files.models_with_changed_files(), 1U);
    EXPECT_TRUE(co_await until([this] { return inspections_ == 1; }));
    co_await life.files_worker.run([] { return 0; });
    EXPECT_EQ(controller_->find(kModel)->spec.resources.device_memory_bytes, kModelBytes) << "it was given, not estimated";
    life.files.deployed(kModel, {stamp(2)});
    EXPECT_EQ(life.files.changed_files(kModel), 0U) << "deployed again: it is meant so";
  });
}

TEST_F(ModelFilesTest, AFileThatIsGoneLeavesItsReplica) {
  play([this]() -> net::Task<void> {
    Life life(*this, database());
    deploy(life);
    const std::uint64_t instance = co_await start();
    seen(instance, stamp(1));
    ready(instance);
    changed(instance, {stamp(1).path, 0, 0, 0}, true);
    for (const auto& view : controller_->scheduler().instances()) EXPECT_EQ(view.state, control::InstanceState::ready);
    EXPECT_EQ(life.files.changed_files(kModel), 1U);
    seen(instance, stamp(1));
    EXPECT_EQ(life.files.changed_files(kModel), 0U);
    co_return;
  });
}

TEST_F(ModelFilesTest, VerifyGoesThroughTheFilesOneByOne) {
  play([this]() -> net::Task<void> {
    Life life(*this, database());
    deploy(life);
    life.files.deployed(kModel, {stamp(1), stamp(1, "/models/p.gguf")});
    auto verification = life.files.verify(kModel);
    EXPECT_TRUE(verification.ok());
    EXPECT_TRUE(asked_.at(0).urgent);
    answer(stamp(1), "a");
    EXPECT_EQ((*verification)->verdicts.at(0).outcome, Outcome::recorded);
    EXPECT_FALSE((*verification)->done);
    answer(stamp(1, "/models/p.gguf"), "");
    EXPECT_TRUE((*verification)->done);
    EXPECT_EQ((*verification)->verdicts.at(1).outcome, Outcome::unreadable);
    EXPECT_EQ(metric("thaw_model_file_mismatches_total{model=\"m\"}"), 1);

    verification = life.files.verify(kModel);
    answer(stamp(2), "b");
    EXPECT_EQ((*verification)->verdicts.at(0).outcome, Outcome::changed);
    EXPECT_EQ((*verification)->verdicts.at(0).recorded_sha256, "a");
    EXPECT_EQ(metric("thaw_model_file_mismatches_total{model=\"m\"}"), 2);
    *verification = nullptr;  // whoever asked has left
    answer(stamp(1, "/models/p.gguf"), "p");
    EXPECT_TRUE(asked_.empty());
    co_return;
  });
}

TEST_F(ModelFilesTest, VerifyRefusesWhatItCannotDo) {
  play([this]() -> net::Task<void> {
    Life life(*this, database());
    EXPECT_EQ(life.files.verify(kModel).error().kind, base::ErrorKind::not_found);
    deploy(life);
    std::vector<std::shared_ptr<const Verification>> all;
    for (std::size_t i = 0; i < ModelFiles::kMaxVerifications; ++i) all.push_back(*life.files.verify(kModel));
    EXPECT_EQ(life.files.verify(kModel).error().kind, base::ErrorKind::exhausted);
    controller_->remove(kModel);
    life.files.removed(kModel);
    controller_->node_event(wire::FileHashed{asked_.front().id, stamp(1), "a", ""});
    EXPECT_TRUE(all.front()->done);
    EXPECT_EQ(all.front()->status.error().kind, base::ErrorKind::conflict);
    co_return;
  });
}

TEST_F(ModelFilesTest, AModelOfAnOlderReleaseIsLookedIntoFirst) {
  play([this]() -> net::Task<void> {
    Life life(*this, database());
    EXPECT_TRUE(life.store->put_model({kModel, "{}", 1, 1}).ok());
    controller_->deploy(entry("m"));
    facts_.files = {stamp(1)};
    const auto verification = *life.files.verify(kModel);
    EXPECT_TRUE(co_await until([this] { return !asked_.empty(); }));
    answer(stamp(1), "a");
    EXPECT_TRUE(verification->done);
    EXPECT_EQ(verification->verdicts.at(0).outcome, Outcome::recorded);
  });
}

}  // namespace
}  // namespace thaw::controller::test
