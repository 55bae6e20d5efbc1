#include "controller/known_file.h"

#include <gtest/gtest.h>

namespace thaw::controller {
namespace {

using Outcome = FileVerdict::Outcome;

wire::FileStamp stamp(std::uint64_t mtime, std::uint64_t bytes = 10) { return {"/m", bytes, mtime, 1}; }
wire::FileHashed hashed(const wire::FileStamp& file, const std::string& sha256) { return {1, file, sha256, ""}; }

/// Deployed at 1, with digest "a".
KnownFile known() {
  KnownFile file = files_as_deployed({}, {stamp(1)}).front();
  EXPECT_TRUE(take_digest(file, hashed(stamp(1), "a"), 100));
  return file;
}

TEST(KnownFile, TheFirstDigestIsTheDeployedOnes) {
  const KnownFile file = known();
  EXPECT_EQ(file.deployed.sha256, "a");
  EXPECT_EQ(file.deployed.verified_unix_ms, 100);
  EXPECT_FALSE(file.changed);
}

TEST(KnownFile, AStartThatSeesTheSameIsNoNews) {
  KnownFile file = known();
  EXPECT_EQ(see_file(file, stamp(1), 200), "");
  EXPECT_FALSE(file.changed);
}

TEST(KnownFile, AChangeIsToldOnceAndKeepsWhatWasDeployed) {
  KnownFile file = known();
  EXPECT_EQ(see_file(file, stamp(2), 200), "it was written to");
  EXPECT_EQ(see_file(file, stamp(2), 300), "");
  ASSERT_TRUE(file.changed);
  EXPECT_EQ(file.changed->changed_unix_ms, 200);
  EXPECT_EQ(file.changed->sha256, "");
  EXPECT_TRUE(take_digest(file, hashed(stamp(2), "b"), 400));
  EXPECT_EQ(file.changed->sha256, "b");
  EXPECT_EQ(file.deployed.sha256, "a");
  EXPECT_EQ(see_file(file, stamp(3, 20), 500), "its size went from 10 to 20 bytes");
  EXPECT_EQ(file.changed->sha256, "") << "of yet another file";
  EXPECT_EQ(see_file(file, stamp(1), 600), "its size went from 20 to 10 bytes") << "the old one is back";
  EXPECT_FALSE(file.changed);
  EXPECT_EQ(file.deployed.sha256, "a");
}

TEST(KnownFile, ADigestOfAnotherStampSaysNothing) {
  KnownFile file = known();
  EXPECT_FALSE(take_digest(file, hashed(stamp(2), "b"), 200));
  EXPECT_EQ(file.deployed.sha256, "a");
}

TEST(KnownFile, TheSameBytesUnderANewTimeAreTheDeployedOnes) {
  KnownFile file = known();
  see_file(file, stamp(2), 200);
  EXPECT_TRUE(take_digest(file, hashed(stamp(2), "a"), 300));
  EXPECT_FALSE(file.changed);
  EXPECT_EQ(stamp_of(file.deployed), stamp(2));
}

TEST(KnownFile, DeployingAgainAcceptsWhatIsThere) {
  KnownFile file = known();
  EXPECT_EQ(files_as_deployed({file}, {stamp(1)}).front().deployed.sha256, "a") << "nothing changed: the digest holds";
  see_file(file, stamp(2), 200);
  take_digest(file, hashed(stamp(2), "b"), 300);
  const KnownFile accepted = files_as_deployed({file}, {stamp(2)}).front();
  EXPECT_EQ(accepted.deployed.sha256, "b");
  EXPECT_EQ(accepted.deployed.changed_unix_ms, 0);
  EXPECT_FALSE(accepted.changed);
  EXPECT_EQ(files_as_deployed({file}, {stamp(3)}).front().deployed.sha256, "");
}

TEST(KnownFile, VerifyingComparesWithWhatWasDeployed) {
  KnownFile file = known();
  FileVerdict verdict = judge_file(file, hashed(stamp(1), "a"), 200);
  EXPECT_EQ(verdict.outcome, Outcome::intact);
  EXPECT_TRUE(verdict.good());
  EXPECT_EQ(file.deployed.verified_unix_ms, 200);

  verdict = judge_file(file, hashed(stamp(2), "b"), 300);
  EXPECT_EQ(verdict.outcome, Outcome::changed);
  EXPECT_FALSE(verdict.good());
  EXPECT_EQ(verdict.sha256, "b");
  EXPECT_EQ(verdict.recorded_sha256, "a");
  EXPECT_EQ(verdict.detail, "since the model was deployed it was written to");
  ASSERT_TRUE(file.changed);
  EXPECT_EQ(file.changed->changed_unix_ms, 300);
  EXPECT_EQ(judge_file(file, hashed(stamp(2), "b"), 400).outcome, Outcome::changed) << "it does not get right by itself";
  EXPECT_EQ(file.changed->changed_unix_ms, 300);

  EXPECT_EQ(judge_file(file, hashed(stamp(5), "a"), 500).outcome, Outcome::intact) << "the old bytes are back";
  EXPECT_FALSE(file.changed);
}

TEST(KnownFile, BytesThatChangeUnderTheSameStampAreDamage) {
  KnownFile file = known();
  const FileVerdict verdict = judge_file(file, hashed(stamp(1), "b"), 200);
  EXPECT_EQ(verdict.outcome, Outcome::damaged);
  EXPECT_NE(verdict.detail.find("neither its size nor its time"), std::string::npos);
  ASSERT_TRUE(file.changed);
  EXPECT_EQ(see_file(file, stamp(1), 300), "") << "a start cannot tell";
  EXPECT_TRUE(file.changed) << "and does not forget";
  EXPECT_EQ(files_as_deployed({file}, {stamp(1)}).front().deployed.sha256, "b") << "who deploys again wants it so";
}

TEST(KnownFile, WithoutADigestTheFirstIsRecordedUnlessTheStampDiffers) {
  KnownFile file = files_as_deployed({}, {stamp(1)}).front();
  KnownFile other = file;
  EXPECT_EQ(judge_file(file, hashed(stamp(1), "a"), 100).outcome, Outcome::recorded);
  EXPECT_EQ(file.deployed.sha256, "a");
  const FileVerdict verdict = judge_file(other, hashed(stamp(2), "a"), 100);
  EXPECT_EQ(verdict.outcome, Outcome::changed);
  EXPECT_EQ(verdict.recorded_sha256, "");
}

TEST(KnownFile, WhatCannotBeReadIsSaid) {
  KnownFile file = known();
  const FileVerdict verdict = judge_file(file, {1, {"/m", 0, 0, 0}, "", "cannot open /m: No such file"}, 200);
  EXPECT_EQ(verdict.outcome, Outcome::unreadable);
  EXPECT_EQ(verdict.detail, "cannot open /m: No such file");
  EXPECT_FALSE(file.changed);
}

}  // namespace
}  // namespace thaw::controller
