#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "node/sandbox/clock.h"
#include "unit/node/tier_rig.h"

/// The conformance suite: what a tier driver promises (node/tiers/driver.h), asked of each of them with an engine that
/// really answers.
///
///     INSTANTIATE_TEST_SUITE_P(Freezer, TierDriverSuite, ::testing::Values(TierRigMaker([] { return
///     std::make_unique<FreezerRig>(); })));
///
/// Include it in one file a driver; the tests are defined in tier_driver_suite.cpp.
namespace thaw::node::test {

class TierDriverSuite : public ::testing::TestWithParam<TierRigMaker> {
 protected:
  void SetUp() override;
  void TearDown() override;

  TierOutcome down(base::Duration within = base::Seconds(20)) { return down_by(TierCall{now() + within, {}}); }
  TierOutcome up(base::Duration within = base::Seconds(20)) { return up_by(TierCall{now() + within, {}}); }
  TierOutcome down_by(const TierCall& call);
  TierOutcome up_by(const TierCall& call);

  /// Holds `outcome` against what the rig sees: an instance that is said to be ready answers, one in standby rests and
  /// wakes, a lost one can be removed. Afterwards the engine is ready, or gone.
  void expect_true(TierOutcome& outcome, const std::string& expected_answer);
  void expect_books(const Holdings& said, const char* when);
  void run_fault(const TierFault& fault);
  void begin();

  std::unique_ptr<TierRig> rig_;
  std::string said_;  ///< what the engine answered before anything happened to it
};

}  // namespace thaw::node::test
