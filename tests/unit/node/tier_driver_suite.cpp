#include "unit/node/tier_driver_suite.h"

#include <cstdio>
#include <cstdlib>

namespace thaw::node::test {
namespace {

// The undo of a call that ran out of time has this long, and a swamped machine twice that.
constexpr auto kUndoAllowance = base::Seconds(15);
// Between two readings of a control group: the kernel counts in batches of 64 pages a processor.
constexpr std::uint64_t kCounterSlack_bytes = 1ULL << 20;

std::string why(const TierOutcome& outcome) {
  return outcome.error ? outcome.error->message : std::string("no error");
}

}  // namespace

void TierDriverSuite::SetUp() {
  rig_ = GetParam()();
  if (const std::string reason = rig_->cannot(); !reason.empty()) {
    rig_.reset();
    GTEST_SKIP() << reason;
  }
  begin();
}

void TierDriverSuite::begin() {
  rig_->start();
  if (HasFatalFailure()) return;
  const auto accepted = rig_->driver().accepts(rig_->subject());
  ASSERT_TRUE(accepted.ok()) << accepted.error().message;
  said_ = rig_->answer();
  ASSERT_FALSE(said_.empty()) << "the engine does not answer";
}

void TierDriverSuite::TearDown() {
  if (!rig_) return;
  rig_->heal();
  EXPECT_TRUE(rig_->driver().discard(rig_->subject()).ok());
  const auto destroyed = rig_->destroy();
  EXPECT_TRUE(destroyed.ok()) << destroyed.error().message;
  EXPECT_FALSE(rig_->alive());
}

TierOutcome TierDriverSuite::down_by(const TierCall& call) {
  return rig_->driver().down(rig_->subject(), call);
}

TierOutcome TierDriverSuite::up_by(const TierCall& call) {
  TierSubject subject = rig_->subject();
  if (rig_->driver().keeps() == Keeps::image) {
    EXPECT_TRUE(rig_->destroy().ok()) << "what the image was made of";
    subject.sandbox = nullptr;
  }
  TierOutcome outcome = rig_->driver().up(subject, call);
  if (outcome.sandbox) rig_->adopt(std::move(outcome.sandbox));
  return outcome;
}

void TierDriverSuite::expect_books(const Holdings& said, const char* when) {
  const Holdings kernel = rig_->holds();
  const auto near = [&](std::uint64_t ours, std::uint64_t theirs, const char* what) {
    const std::uint64_t apart = ours > theirs ? ours - theirs : theirs - ours;
    EXPECT_LE(apart, std::max(theirs / 50, kCounterSlack_bytes))
        << when << ": " << what << " " << ours << ", the kernel says " << theirs;
  };
  near(said.device_bytes, kernel.device_bytes, "device memory");
  near(said.host_bytes, kernel.host_bytes, "host memory");
  near(said.weights_bytes, kernel.weights_bytes, "weights");
}

void TierDriverSuite::expect_true(TierOutcome& outcome, const std::string& expected_answer) {
  if (outcome.rests == Rests::ready) {
    EXPECT_FALSE(rig_->rests());
    EXPECT_EQ(rig_->answer(), expected_answer);
    return;
  }
  if (outcome.rests == Rests::standby) {
    const bool process = rig_->driver().keeps() == Keeps::process;
    EXPECT_EQ(rig_->rests(), process);
    const TierOutcome woken = up();
    ASSERT_TRUE(woken.ok()) << why(woken);
    EXPECT_EQ(woken.rests, Rests::ready);
    EXPECT_EQ(rig_->answer(), expected_answer);
    return;
  }
  EXPECT_TRUE(rig_->driver().discard(rig_->subject()).ok());
  const auto destroyed = rig_->destroy();
  EXPECT_TRUE(destroyed.ok()) << destroyed.error().message;
  EXPECT_FALSE(rig_->alive());
}

TEST_P(TierDriverSuite, GoesDownAndUpAgainAndAnswersAsBefore) {
  const Holdings ready = rig_->holds();
  for (int round = 0; round < 2; ++round) {
    const TierOutcome rested = down();
    ASSERT_TRUE(rested.ok()) << why(rested);
    EXPECT_FALSE(rested.phases.empty());
    if (rig_->driver().keeps() == Keeps::process) {
      EXPECT_EQ(rested.rests, Rests::standby);
      EXPECT_TRUE(rig_->rests());
      expect_books(rested.held, "in standby");
      // What leaves a device may take more of the host than it took there (a sanitizer's own memory counts too).
      const auto all = [](const Holdings& held) { return held.device_bytes + held.host_bytes + held.weights_bytes; };
      EXPECT_TRUE(rested.held.device_bytes < ready.device_bytes || all(rested.held) < all(ready)) << "it was for nothing";
    }
    const TierOutcome woken = up();
    ASSERT_TRUE(woken.ok()) << why(woken);
    EXPECT_EQ(woken.rests, Rests::ready);
    EXPECT_FALSE(rig_->rests());
    EXPECT_EQ(rig_->answer(), said_);
  }
}

TEST_P(TierDriverSuite, ADeadlineThatHasPassedChangesNothing) {
  TierOutcome outcome = down(base::Duration::zero());
  ASSERT_FALSE(outcome.ok());
  EXPECT_EQ(outcome.error->kind, base::ErrorKind::timeout) << why(outcome);
  EXPECT_EQ(outcome.rests, Rests::ready);
  expect_true(outcome, said_);

  ASSERT_TRUE(down().ok());
  TierOutcome late = up(base::Duration::zero());
  ASSERT_FALSE(late.ok());
  EXPECT_EQ(late.error->kind, base::ErrorKind::timeout) << why(late);
  EXPECT_EQ(late.rests, Rests::standby);
  expect_true(late, said_);
}

TEST_P(TierDriverSuite, StopsWhenAsked) {
  std::stop_source source;
  source.request_stop();
  TierOutcome outcome = down_by({now() + base::Seconds(20), source.get_token()});
  ASSERT_FALSE(outcome.ok());
  EXPECT_EQ(outcome.error->kind, base::ErrorKind::unavailable) << why(outcome);
  expect_true(outcome, said_);
  if (!rig_->alive()) return;

  ASSERT_TRUE(down().ok());
  TierOutcome cut = up_by({now() + base::Seconds(20), source.get_token()});
  ASSERT_FALSE(cut.ok());
  EXPECT_EQ(cut.error->kind, base::ErrorKind::unavailable) << why(cut);
  expect_true(cut, said_);
}

TEST_P(TierDriverSuite, AnEngineThatEndedIsLost) {
  rig_->kill_engine();
  TierOutcome outcome = down();
  ASSERT_FALSE(outcome.ok());
  EXPECT_EQ(outcome.rests, Rests::lost);
  EXPECT_EQ(outcome.held.host_bytes, 0U);
  expect_true(outcome, "");
}

TEST_P(TierDriverSuite, AnEngineThatEndsWhileItRestsIsLost) {
  if (rig_->driver().keeps() == Keeps::image) GTEST_SKIP() << "an image has no process";
  ASSERT_TRUE(down().ok());
  rig_->kill_engine();
  TierOutcome outcome = up();
  ASSERT_FALSE(outcome.ok());
  EXPECT_EQ(outcome.rests, Rests::lost);
  expect_true(outcome, "");
}

TEST_P(TierDriverSuite, WhatRestsCanBeDiscarded) {
  ASSERT_TRUE(down().ok());
  EXPECT_TRUE(rig_->driver().discard(rig_->subject()).ok());
  EXPECT_TRUE(rig_->driver().discard(rig_->subject()).ok()) << "nothing to forget is no error";
  const auto destroyed = rig_->destroy();
  EXPECT_TRUE(destroyed.ok()) << destroyed.error().message;
  EXPECT_FALSE(rig_->alive());
}

/// Each fault in turn, on an engine that is ready again after the one before or made anew; and each time somebody's
/// request is answered in the end, as the node would see to it: by the instance that was healed or woken, else by a new
/// one.
TEST_P(TierDriverSuite, AFaultLeavesNothingInBetween) {
  for (const TierFault& fault : rig_->faults()) {
    SCOPED_TRACE(fault.name);
    const std::string expected = said_;
    const base::TimePoint begun = now();
    run_fault(fault);
    if (HasFatalFailure()) return;
    const bool anew = !rig_->alive();
    if (anew) begin();
    if (HasFatalFailure()) return;
    const bool answered = rig_->answer() == expected;
    EXPECT_TRUE(answered);
    // For scripts/bench tier-faults, which puts these lines into a table.
    if (std::getenv("THAW_TIER_FAULTS") !=
        nullptr)  // NOLINT(concurrency-mt-unsafe): nothing changes the environment here
      std::printf("FAULT %s|%s|%s|%s|%.0f|%s\n", std::string(rig_->driver().name()).c_str(),
                  fault.in == TierFault::In::up ? "up" : "down", fault.name.c_str(),
                  anew ? "started anew" : "the same instance", base::to_ms(now() - begun),
                  answered ? "answered" : "unanswered");
  }
}

void TierDriverSuite::run_fault(const TierFault& fault) {
  const bool in_up = fault.in == TierFault::In::up;
  if (in_up) {
    const TierOutcome rested = down();
    ASSERT_TRUE(rested.ok()) << why(rested);
  }
  fault.arm();
  const base::TimePoint begun = now();
  TierOutcome outcome = in_up ? up(fault.deadline) : down(fault.deadline);
  EXPECT_LE(now() - begun, fault.deadline + kUndoAllowance) << "its deadline";
  EXPECT_EQ(!outcome.ok(), fault.fails) << why(outcome);
  EXPECT_NE(std::find(fault.allowed.begin(), fault.allowed.end(), outcome.rests), fault.allowed.end())
      << "rests " << to_string(outcome.rests) << ": " << why(outcome);
  rig_->heal();
  expect_true(outcome, said_);
}

TEST_P(TierDriverSuite, ManyThreadsMayAskWhatItCosts) {
  const TierSubject subject = rig_->subject();
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      const TierEstimate estimate = rig_->driver().estimate(subject);
      EXPECT_GT(estimate.up, base::Duration::zero());
      EXPECT_GT(estimate.down, base::Duration::zero());
    });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace thaw::node::test
