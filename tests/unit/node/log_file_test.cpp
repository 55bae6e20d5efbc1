#include "node/logs/log_file.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "unit/node/gguf_builder.h"

namespace thaw::node {
namespace {

using testing::TemporaryDirectory;

std::string line(int number) { return "line " + std::to_string(number) + "\n"; }

std::uint64_t size_of(const std::string& path) {
  std::error_code error;
  const auto bytes = std::filesystem::file_size(path, error);
  return error ? 0 : bytes;
}

TEST(LogFile, StaysWithinItsBoundAndKeepsTheNewest) {
  const TemporaryDirectory directory;
  const std::string path = directory / "logs/model.log";
  auto log = LogFile::open(path, 8192);
  ASSERT_TRUE(log.ok()) << log.error().message;
  for (int i = 0; i < 5000; ++i) {
    log->append(line(i));
    ASSERT_LE(size_of(path), 4096U);
    ASSERT_LE(size_of(path + ".1"), 4096U);
  }
  EXPECT_GT(size_of(path) + size_of(path + ".1"), 4096U);
  const std::string tail = log->tail(8192);
  EXPECT_TRUE(tail.starts_with("line "));
  EXPECT_TRUE(tail.ends_with(line(4999)));
  EXPECT_EQ(log->tail(15), "line 4999\n");
  EXPECT_EQ(log->tail(20), line(4998) + line(4999));
}

TEST(LogFile, RotatesBetweenLinesAndCutsOnlyWhatNoFileHolds) {
  const TemporaryDirectory directory;
  auto log = LogFile::open(directory / "a.log", 8192);
  ASSERT_TRUE(log.ok());
  log->append(std::string(3000, 'x') + "\n" + std::string(3000, 'y') + "\n");
  EXPECT_EQ(size_of(directory / "a.log.1"), 3001U);
  EXPECT_EQ(size_of(directory / "a.log"), 3001U);
  log->append(std::string(10'000, 'z'));
  EXPECT_LE(size_of(directory / "a.log"), 4096U);
  EXPECT_EQ(size_of(directory / "a.log.1"), 4096U);
  EXPECT_EQ(log->tail(100), std::string(100, 'z'));
}

TEST(LogFile, ContinuesWhatIsThere) {
  const TemporaryDirectory directory;
  { LogFile::open(directory / "a.log", 8192)->append("first\n"); }
  auto log = LogFile::open(directory / "a.log", 8192);
  log->append("second\n");
  EXPECT_EQ(log->tail(100), "first\nsecond\n");
  EXPECT_EQ(log_tail(directory / "a.log", 100), "first\nsecond\n");
  EXPECT_EQ(log_tail(directory / "absent.log", 100), "");
  EXPECT_FALSE(LogFile::open(directory.path(), 8192).ok());
}

TEST(LogFollower, BeginsWithTheTailAndMissesNothing) {
  const TemporaryDirectory directory;
  const std::string path = directory / "a.log";
  LogFollower early(path, 100);
  EXPECT_EQ(early.read_more(), "");
  auto log = LogFile::open(path, 8192);
  log->append(line(1) + line(2));
  EXPECT_EQ(early.read_more(), line(1) + line(2));
  LogFollower late(path, 8);
  EXPECT_EQ(late.read_more(), line(2));
  log->append("half");
  EXPECT_EQ(late.read_more(), "half");
  log->append(" a line\n");
  EXPECT_EQ(late.read_more(), " a line\n");
  EXPECT_EQ(late.read_more(), "");
}

TEST(LogFollower, ReadsAcrossRotations) {
  const TemporaryDirectory directory;
  const std::string path = directory / "a.log";
  auto log = LogFile::open(path, 8192);
  LogFollower follower(path, 0);
  std::string expected;
  std::string seen;
  for (int i = 0; i < 5000; ++i) {
    log->append(line(i));
    expected += line(i);
    if (i % 250 == 0) seen += follower.read_more();  // at most 250 × 10 bytes, less than a file, lie between two looks
  }
  seen += follower.read_more();
  EXPECT_EQ(seen, expected);
}

TEST(LogFollower, SaysWhereLinesAreMissing) {
  const TemporaryDirectory directory;
  auto log = LogFile::open(directory / "a.log", 8192);
  log->append("old\n");
  LogFollower follower(directory / "a.log", 0);
  for (int i = 0; i < 5000; ++i) log->append(line(i));
  std::string seen;
  for (std::string more = follower.read_more(); !more.empty(); more = follower.read_more()) seen += more;
  EXPECT_NE(seen.find("lines may be missing"), std::string::npos);
  EXPECT_TRUE(seen.ends_with(line(4999)));
}

TEST(LogFollower, ALogThatWasRotatedBeforeTheFirstLookIsReadFromItsBeginning) {
  const TemporaryDirectory directory;
  LogFollower follower(directory / "a.log", 0);
  auto log = LogFile::open(directory / "a.log", 8192);
  std::string expected;
  for (int i = 0; i < 500; ++i) {
    log->append(line(i));
    expected += line(i);
  }
  ASSERT_TRUE(std::filesystem::exists(directory / "a.log.1"));
  std::string seen;
  for (std::string more = follower.read_more(); !more.empty(); more = follower.read_more()) seen += more;
  EXPECT_EQ(seen, expected);
}

TEST(LogFollower, LosesNothingBesideAWriter) {
  const TemporaryDirectory directory;
  const std::string path = directory / "a.log";
  constexpr int kLines = 20'000;
  LogFollower follower(path, 0);
  std::thread writer([&] {
    auto log = LogFile::open(path, 256U << 10);  // one rotation: what is tested is its moment, not a reader that falls behind
    for (int i = 0; i < kLines; ++i) log->append(line(i));
  });
  std::string seen;
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!seen.ends_with(line(kLines - 1)) && std::chrono::steady_clock::now() < deadline) seen += follower.read_more();
  writer.join();
  EXPECT_TRUE(std::filesystem::exists(path + ".1"));
  std::string expected;
  for (int i = 0; i < kLines; ++i) expected += line(i);
  EXPECT_EQ(seen.find("missing"), std::string::npos);
  EXPECT_EQ(seen, expected);
}

}  // namespace
}  // namespace thaw::node
