#include "controller/pulls.h"

#include <atomic>
#include <filesystem>

#include "spec/parse.h"
#include "unit/controller/harness.h"
#include "unit/node/file_server.h"
#include "unit/temp_dir.h"

namespace thaw::controller::test {
namespace {

using thaw::test::FileServer;
using thaw::test::Served;
using thaw::test::ServedRequest;

const base::ModelName kModel("m");

/// Pulls from a real server onto a real store; what the files are is the test's to say.
class PullsTest : public ControllerTest {
 protected:
  /// The pulls of a server's life. Several can follow each other on one store.
  struct Life {
    explicit Life(PullsTest& test)
        : store(std::move(store::open_sqlite(test.directory_.file("t.db"))).value()),
          store_worker(*test.loop_, 1),
          files_worker(*test.loop_, 1),
          model_files({.loop = *test.loop_,
                       .controller = *test.controller_,
                       .store = *store,
                       .store_worker = store_worker,
                       .files_worker = files_worker,
                       .metrics = test.metrics_,
                       .send = [](const wire::NodeCommand&) {}}),
          blobs(test.directory_.file("store"), std::nullopt),
          pulls({.loop = *test.loop_,
                 .controller = *test.controller_,
                 .store = *store,
                 .store_worker = store_worker,
                 .files_worker = files_worker,
                 .metrics = test.metrics_,
                 .model_files = model_files,
                 .blobs = blobs,
                 .options = test.options_,
                 .inspect = [&test](const spec::ModelSpec& spec) -> base::Result<node::ModelFacts> {
                   test.inspected_ = spec.source.path;
                   if (!test.good_) return base::Error{base::ErrorKind::invalid, "it is no model"};
                   node::ModelFacts facts;
                   facts.weights_bytes = 5;
                   facts.estimated_device_bytes = kModelBytes;
                   return facts;
                 }}) {
      EXPECT_TRUE(blobs.open().ok());
      EXPECT_TRUE(pulls.load().ok());
    }
    std::unique_ptr<store::Store> store;
    net::Worker store_worker;
    net::Worker files_worker;
    ModelFiles model_files;
    node::pull::BlobStore blobs;
    Pulls pulls;
  };

  PullsTest() {
    options_.fetch.rules.allow_http = true;
    options_.fetch.rules.private_hosts = {"127.0.0.1"};
    options_.limits.backoff = {base::Millis(1), base::Millis(1), 1};
  }

  [[nodiscard]] spec::ModelSpec remote(const std::string& path = "/m.gguf") const {
    spec::ModelSpec spec = entry("m").spec;
    spec.source = {};
    spec.source.url = server_.url(path);
    spec.resources.device_memory_bytes.reset();
    return spec;
  }
  /// As the gateway does it.
  void deploy(Life& life, const spec::ModelSpec& spec) {
    ASSERT_TRUE(life.store->put_pending_model({kModel, spec::to_json(spec), 1, 2, true}).ok());
    life.pulls.add(spec, 1, 2);
  }
  template <typename Condition>
  net::Task<void> until(Condition condition) {
    while (!condition()) co_await net::SleepUntil(*loop_, loop_->now() + base::Millis(2));
  }

  const thaw::test::TempDir directory_;
  node::pull::PullerOptions options_;
  std::atomic<bool> there_{true};
  std::atomic<bool> good_{true};
  std::string inspected_;
  FileServer server_{[this](const ServedRequest& request) {
    if (!there_) return Served{404, "", "", {}, {}, false, 0};
    return FileServer::serve(request, "bytes");
  }};
};

TEST_F(PullsTest, AModelServesOnceItsFilesAreThere) {
  play([&]() -> net::Task<void> {
    Life life(*this);
    spec::ModelSpec spec = remote();
    EXPECT_TRUE(life.pulls.must_wait(spec));
    deploy(life, spec);
    EXPECT_NE(life.pulls.find(kModel), nullptr);
    EXPECT_EQ(controller_->find(kModel), nullptr);
    co_await until([&] { return controller_->find(kModel) != nullptr; });
    EXPECT_EQ(life.pulls.find(kModel), nullptr);
    const ModelEntry& model = *controller_->find(kModel);
    EXPECT_EQ(model.spec.source.path, inspected_);
    EXPECT_TRUE(model.memory_estimated);
    EXPECT_EQ(model.spec.resources.device_memory_bytes, kModelBytes);
    EXPECT_TRUE(life.store->pending_models()->empty());
    EXPECT_EQ(life.store->models()->size(), 1U);
    EXPECT_EQ(life.pulls.used_paths(), std::vector<std::string>{inspected_});
    EXPECT_FALSE(life.pulls.must_wait(spec)) << "it was pulled before";
    EXPECT_EQ(spec.source.path, inspected_);
  });
}

TEST_F(PullsTest, AModelThatWaitsIsFoundByItsAliasesAndKeepsItsTimeToTakeOver) {
  there_ = false;
  play([&]() -> net::Task<void> {
    {
      Life life(*this);
      spec::ModelSpec spec = remote();
      spec.aliases = {"gpt"};
      EXPECT_TRUE(life.store->put_pending_model({kModel, spec::to_json(spec), 1, 2, true, 90'000}).ok());
      life.pulls.add(spec, 1, 2, base::Seconds(90));
      co_await until([&] { return life.pulls.find(kModel)->failure.has_value(); });
    }
    Life life(*this);
    const PendingModel* const pending = life.pulls.find(kModel);
    EXPECT_EQ(pending->takeover_timeout, base::Seconds(90)) << "as it was stored";
    EXPECT_EQ(life.pulls.meant(kModel), pending);
    EXPECT_EQ(life.pulls.meant(base::ModelName("gpt")), pending);
    EXPECT_EQ(life.pulls.meant(base::ModelName("acme~gpt")), nullptr) << "another tenant's";
    EXPECT_EQ(life.pulls.meant(base::ModelName("other")), nullptr);
    co_await until([&] { return life.pulls.find(kModel)->failure.has_value(); });
  });
}

TEST_F(PullsTest, AModelThatWaitsGoesOnInTheNextLife) {
  there_ = false;
  play([&]() -> net::Task<void> {
    {
      Life life(*this);
      deploy(life, remote());
      co_await until([&] { return life.pulls.find(kModel)->failure.has_value(); });
      EXPECT_EQ(life.pulls.find(kModel)->failure->kind, base::ErrorKind::not_found);
      EXPECT_EQ(life.pulls.find(kModel)->retry_at, base::never()) << "what is not there does not come by waiting";
    }
    there_ = true;
    Life life(*this);
    co_await until([&] { return controller_->find(kModel) != nullptr; });
    EXPECT_EQ(controller_->find(kModel)->created_unix_ms, 1);
  });
}

TEST_F(PullsTest, FilesThatAreNoModelServeNothingUntilTheyAreMended) {
  good_ = false;
  play([&]() -> net::Task<void> {
    Life life(*this);
    deploy(life, remote());
    co_await until([&] { return life.pulls.find(kModel)->failure.has_value(); });
    EXPECT_EQ(life.pulls.find(kModel)->failure->message, "it is no model");
    good_ = true;
    EXPECT_TRUE(life.pulls.pull_model(kModel).ok());
    co_await until([&] { return controller_->find(kModel) != nullptr; });
  });
}

TEST_F(PullsTest, TheOldOneServesUntilTheNewOnesFilesAreThere) {
  play([&]() -> net::Task<void> {
    Life life(*this);
    controller_->deploy(entry("m"));
    deploy(life, remote());
    EXPECT_EQ(controller_->find(kModel)->spec.source.path, "/models/m.gguf");
    co_await until([&] { return controller_->find(kModel)->spec.source.remote(); });
    // And one that is removed meanwhile does not come back.
    spec::ModelSpec other = remote("/other.gguf");
    life.pulls.add(other, 1, 3);
    const std::uint64_t pull = life.pulls.find(kModel)->pull;
    EXPECT_TRUE(life.pulls.forget(kModel));
    controller_->remove(kModel);
    co_await until([&] { return life.pulls.puller().look(pull)->ended(); });
    co_await until([&] { return life.pulls.waiting_for(pull).empty(); });
    EXPECT_EQ(controller_->find(kModel), nullptr);
  });
}

TEST_F(PullsTest, AModelWhosePulledFilesAreGoneIsPulledAgain) {
  play([&]() -> net::Task<void> {
    Life life(*this);
    deploy(life, remote());
    co_await until([&] { return controller_->find(kModel) != nullptr; });
  });
  std::filesystem::remove_all(directory_.file("store"));
  play([&]() -> net::Task<void> {
    Life life(*this);
    co_await until([&] { return controller_->find(kModel) != nullptr; });
    EXPECT_TRUE(std::filesystem::exists(inspected_));
    const auto wrong = life.pulls.pull_model(base::ModelName("nobody"));
    EXPECT_EQ(wrong.error().kind, base::ErrorKind::not_found);
    controller_->deploy(entry("local"));
    EXPECT_EQ(life.pulls.pull_model(base::ModelName("local")).error().kind, base::ErrorKind::invalid);
  });
}

}  // namespace
}  // namespace thaw::controller::test
