#include "control/rollout.h"

#include <gtest/gtest.h>

#include "base/revision.h"

namespace thaw::control {
namespace {

using base::at_revision;
using base::ModelName;

spec::ModelSpec model(std::uint64_t bytes = 100) {
  spec::ModelSpec spec;
  spec.name = ModelName("m");
  spec.source.path = "/m.gguf";
  spec.resources.device_memory_bytes = bytes;
  return spec;
}

spec::ModelSpec changed(std::uint64_t bytes = 100) {
  spec::ModelSpec spec = model(bytes);
  spec.args = {"-c", "512"};
  return spec;
}

std::vector<DeviceView> devices(std::vector<std::uint64_t> budgets, spec::DeviceKind kind = spec::DeviceKind::cpu) {
  std::vector<DeviceView> all;
  for (const std::uint64_t budget : budgets) {
    DeviceView view;
    view.info.kind = kind;
    view.info.budget_bytes = budget;
    all.push_back(view);
  }
  return all;
}

ModelView running() {
  ModelView view;
  view.ready = 1;
  return view;
}

TEST(Revision, StandsInANameOfItsOwn) {
  EXPECT_EQ(at_revision(ModelName("acme~m"), 1).str(), "acme~m");
  const ModelName third = at_revision(ModelName("acme~m"), 3);
  EXPECT_EQ(third.str(), "acme~m@3");
  EXPECT_EQ(base::model_of(third).str(), "acme~m");
  EXPECT_EQ(base::model_of(ModelName("m")).str(), "m");
  EXPECT_EQ(base::revision_part(third.str()), 3U);
  EXPECT_EQ(base::revision_part("m"), 1U);
  EXPECT_EQ(base::public_model(third), "m");
  EXPECT_EQ(base::tenant_of(third).str(), "acme");
}

TEST(Succession, OtherBoundsNeedNoOtherEngines) {
  spec::ModelSpec bounds = model();
  bounds.scaling.max_replicas = 4;
  const ModelView view = running();
  EXPECT_EQ(succession(model(), bounds, false, &view, devices({1000})), Succession::in_place);
  EXPECT_EQ(succession(model(), bounds, true, &view, devices({1000})), Succession::beside)
      << "who wants to share the requests wants two";
}

TEST(Succession, AModelAtZeroIsReplacedAtOnce) {
  EXPECT_EQ(succession(model(), changed(), false, nullptr, devices({1000})), Succession::at_once);
  ModelView view;
  EXPECT_EQ(succession(model(), changed(), false, &view, devices({1000})), Succession::at_once);
  view.standby = 1;
  EXPECT_EQ(succession(model(), changed(), false, &view, devices({1000})), Succession::at_once);
  view.queued = 1;
  EXPECT_EQ(succession(model(), changed(), false, &view, devices({1000})), Succession::beside)
      << "somebody waits for the old one";
  spec::ModelSpec kept = model();
  kept.scaling.min_replicas = 1;
  EXPECT_EQ(succession(kept, changed(), false, nullptr, devices({1000})), Succession::beside);
}

TEST(Succession, WhatFindsNoRoomBesideTheOldOneTakesItsPlace) {
  const ModelView view = running();
  EXPECT_EQ(succession(model(), changed(), false, &view, devices({200})), Succession::beside);
  EXPECT_EQ(succession(model(), changed(), false, &view, devices({199})), Succession::displaced);
  EXPECT_EQ(succession(model(), changed(), false, &view, devices({199, 150})), Succession::beside)
      << "on the other device";
  EXPECT_EQ(succession(model(100), changed(150), false, &view, devices({199, 149})), Succession::displaced);
  spec::ModelSpec on_gpu = changed(1000);
  on_gpu.resources.device = spec::DeviceKind::cuda;
  EXPECT_EQ(succession(model(), on_gpu, false, &view, devices({100})), Succession::beside)
      << "it takes nothing of what the old one holds";
}

TEST(NextStep, WaitsUntilItIsReadyAndNoLonger) {
  const base::TimePoint begun{base::Seconds(100)};
  const base::TimePoint deadline = begun + base::Seconds(10);
  ModelView view;
  EXPECT_EQ(next_step(RolloutStage::starting, 100, view, deadline, begun), RolloutStep::wait);
  EXPECT_EQ(next_step(RolloutStage::starting, 100, view, deadline, deadline), RolloutStep::fail);
  view.start_failures = kRolloutStartFailures;
  EXPECT_EQ(next_step(RolloutStage::starting, 100, view, deadline, begun), RolloutStep::fail);
  view.ready = 1;
  EXPECT_EQ(next_step(RolloutStage::starting, 100, view, deadline, deadline), RolloutStep::promote)
      << "ready at the last moment is ready";
  EXPECT_EQ(next_step(RolloutStage::starting, 10, view, deadline, begun), RolloutStep::share);
  EXPECT_EQ(next_step(RolloutStage::split, 10, view, deadline, deadline), RolloutStep::wait)
      << "a split lasts until somebody decides";
}

TEST(HasDrained, WhenNobodyWouldBeLost) {
  ModelView view = running();
  EXPECT_TRUE(has_drained(view));
  view.queued = 1;
  EXPECT_FALSE(has_drained(view));
  view.queued = 0;
  view.in_flight = 1;
  EXPECT_FALSE(has_drained(view));
}

TEST(Split, IsAsWideAsItSaysAndSticky) {
  constexpr std::uint64_t kKeys = 100'000;
  for (const std::uint32_t percent : {0U, 1U, 10U, 50U, 100U}) {
    std::uint64_t candidates = 0;
    for (std::uint64_t key = 0; key < kKeys; ++key) {
      if (!goes_to_candidate(key, percent)) continue;
      ++candidates;
      EXPECT_TRUE(goes_to_candidate(key, std::min(100U, percent + 5)))
          << "who went there stays there when the share grows";
    }
    EXPECT_NEAR(static_cast<double>(candidates) / kKeys, percent / 100.0, 0.01) << percent;
  }
}

TEST(Surplus, KeepsWhatServes) {
  EXPECT_TRUE(surplus_revisions({1, 2, 3}, {3}, 3).empty());
  EXPECT_EQ(surplus_revisions({1, 2, 3, 4}, {4}, 3), (std::vector<std::uint32_t>{1}));
  EXPECT_EQ(surplus_revisions({1, 2, 3, 4}, {1, 4}, 2), (std::vector<std::uint32_t>{2, 3}));
  EXPECT_EQ(surplus_revisions({1, 2}, {1, 2}, 1), (std::vector<std::uint32_t>{}));
}

}  // namespace
}  // namespace thaw::control
