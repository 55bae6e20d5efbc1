#include <gtest/gtest.h>

#include "store/store.h"
#include "unit/temp_dir.h"

namespace thaw::store {
namespace {

using base::ModelName;

StoredModel served(const char* name) {
  return {ModelName(name), "{}", 1, 2, false};
}

StoredRevision revision(std::uint32_t number, const char* runs_as = "m") {
  return {ModelName("m"), number, "{" + std::to_string(number) + "}", ModelName(runs_as), false, 5, 6, ""};
}

std::vector<std::string> names(Store& store) {
  std::vector<std::string> all;
  const auto models = store.models();
  for (const StoredModel& model : *models) all.push_back(model.name.str());
  return all;
}

class RolloutStore : public ::testing::Test {
 protected:
  RolloutStore() { reopen(); }
  void reopen() {
    store_.reset();
    auto opened = open_sqlite(directory_.file("t.db"));
    EXPECT_TRUE(opened.ok()) << opened.error().message;
    store_ = std::move(opened).value();
  }
  test::TempDir directory_;
  std::unique_ptr<Store> store_;
};

TEST_F(RolloutStore, KeepsRevisionsAndWhichOfThemServe) {
  ASSERT_TRUE(store_->change_rollout({{ModelName("m"), 1, 0, 0}, {served("m")}, {}, {revision(1)}, {}}).ok());
  StoredRevision second = revision(2, "m@2");
  second.failure = "it did not become ready";
  ASSERT_TRUE(store_->change_rollout({{ModelName("m"), 1, 2, 10, 90'000}, {served("m@2")}, {}, {second}, {}}).ok());
  reopen();
  EXPECT_EQ(names(*store_), (std::vector<std::string>{"m", "m@2"}));
  EXPECT_EQ(*store_->revisions(), (std::vector<StoredRevision>{revision(1), second}));
  EXPECT_EQ(*store_->rollouts(), (std::vector<StoredRollout>{{ModelName("m"), 1, 2, 10, 90'000}}));
  ASSERT_TRUE(store_->change_rollout({{ModelName("m"), 2, 0, 0}, {}, {ModelName("m")}, {}, {1}}).ok());
  reopen();
  EXPECT_EQ(names(*store_), (std::vector<std::string>{"m@2"}));
  EXPECT_EQ(store_->revisions()->size(), 1U);
  EXPECT_EQ(store_->rollouts()->at(0).active, 2U);
}

TEST_F(RolloutStore, ADeployEndsTheWaitingForFiles) {
  ASSERT_TRUE(store_->put_pending_model({ModelName("m"), "{}", 1, 2, false, 90'000}).ok());
  EXPECT_EQ(store_->pending_models()->at(0).takeover_timeout_ms, 90'000);
  ASSERT_TRUE(store_->change_rollout({{ModelName("m"), 2, 0, 0}, {served("m@2")}, {}, {revision(2, "m@2")}, {}}).ok());
  EXPECT_TRUE(store_->pending_models()->empty());
}

TEST_F(RolloutStore, RemovesAModelWithAllThatItRunsAs) {
  ASSERT_TRUE(store_
                  ->change_rollout({{ModelName("m"), 1, 2, 10},
                                    {served("m"), served("m@2"), served("m@3")},
                                    {},
                                    {revision(1), revision(2, "m@2")},
                                    {}})
                  .ok());
  ASSERT_TRUE(store_->put_model_files(ModelName("m@2"), {{"/x", 1, 2, 3, "", 0, 0}}).ok());
  ASSERT_TRUE(store_->change_rollout({{ModelName("m2"), 1, 0, 0}, {served("m2")}, {}, {}, {}}).ok());
  EXPECT_TRUE(store_->delete_rollout(ModelName("m")).value_or(false));
  EXPECT_EQ(names(*store_), (std::vector<std::string>{"m2"})) << "a name that begins alike is another model's";
  EXPECT_TRUE(store_->revisions()->empty());
  EXPECT_TRUE(store_->model_files()->empty());
  EXPECT_EQ(store_->rollouts()->size(), 1U);
  EXPECT_FALSE(store_->delete_rollout(ModelName("m")).value_or(true));
}

}  // namespace
}  // namespace thaw::store
