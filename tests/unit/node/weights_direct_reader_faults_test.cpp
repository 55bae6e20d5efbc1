#include "unit/node/direct_reader_harness.h"

namespace thaw::node::test {
namespace {

TEST_F(DirectReads, ADiskThatRefusesReadsOfThisAlignmentIsReadThroughThePageCache) {
  const std::string path = file("weights", kMiB + 5);
  // As XFS does on disks with larger blocks: opening works, reading does not.
  unsigned refused = 0;
  const auto reading =
      tampered({64 * kKiB, 8}, [&refused](const AskedRead& read, std::int64_t result) -> base::Result<std::int64_t> {
        if (!is_direct(read.fd) && read.number >= 8) return result;
        ++refused;
        return -EINVAL;
      });
  Collector collector;
  const auto report = reading->read({{path}}, collector.sink());
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_GE(refused, 8U) << "all that were under way";
  EXPECT_EQ(report->buffered_bytes, kMiB + 5);
  EXPECT_EQ(collector.extent(0), Extent(0, kMiB + 5));
  EXPECT_EQ(collector.wrong_bytes(), 0U);
}

TEST_F(DirectReads, OnlyTheFileThatIsRefusedIsReadThroughThePageCache) {
  const std::vector<ReadRange> ranges{{file("refused", 300'000)}, {file("direct", 300'000)}};
  struct stat refused {};
  ASSERT_EQ(::stat(ranges[0].path.c_str(), &refused), 0);
  const auto reading =
      tampered({64 * kKiB, 2}, [&refused](const AskedRead& read, std::int64_t result) -> base::Result<std::int64_t> {
        struct stat status {};
        ::fstat(read.fd, &status);
        if (status.st_ino == refused.st_ino && is_direct(read.fd)) return -EINVAL;
        return result;
      });
  Collector collector;
  const auto report = reading->read(ranges, collector.sink());
  ASSERT_TRUE(report.ok()) << report.error().message;
  if (report->buffered_bytes == 600'000) GTEST_SKIP() << "/var/tmp refuses direct I/O";
  EXPECT_EQ(report->buffered_bytes, 300'000U);
  EXPECT_EQ(collector.wrong_bytes(), 0U);
}

TEST_F(DirectReads, ShortReadsGoOnWhereTheyEnded) {
  const std::string path = file("weights", kMiB + 700);
  std::set<std::uint64_t> continued;
  const auto reading =
      tampered({64 * kKiB, 4}, [&continued](const AskedRead& read, std::int64_t result) -> base::Result<std::int64_t> {
        EXPECT_EQ(read.offset % 4096, 0U) << "what is read directly stays aligned";
        EXPECT_EQ(read.bytes % 4096, 0U);
        if (read.from > 0) continued.insert(read.offset);
        // Less than was asked for, at an odd place; a little of the last block is read twice.
        return result > 20'000 ? 20'000 : result;
      });
  Collector collector;
  const auto report = reading->read({{path}}, collector.sink());
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_EQ(collector.extent(0), Extent(0, kMiB + 700));
  EXPECT_EQ(collector.wrong_bytes(), 0U);
  EXPECT_TRUE(report->buffered_bytes > 0 || continued.size() >= 3 * 16U);
}

TEST_F(DirectReads, WhatPassesIsTriedAgain) {
  const std::string path = file("weights", kMiB);
  const auto reading =
      tampered({64 * kKiB, 4}, [](const AskedRead& read, std::int64_t result) -> base::Result<std::int64_t> {
        if (read.number % 4 == 1) return -EAGAIN;
        if (read.number % 4 == 2) return -EINTR;
        if (read.number % 4 == 3) return 0;  // some network file systems, for a moment
        return result;
      });
  Collector collector;
  const auto report = reading->read({{path}}, collector.sink());
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_EQ(collector.extent(0), Extent(0, kMiB));
  EXPECT_EQ(collector.wrong_bytes(), 0U);
}

TEST_F(DirectReads, WhatNeverPassesEnds) {
  const std::string path = file("weights", kMiB);
  for (const std::int64_t always : {-EAGAIN, -EINTR, -EINVAL, 0}) {
    unsigned reads = 0;
    const auto reading =
        tampered({64 * kKiB, 2}, [&reads, always](const AskedRead&, std::int64_t) -> base::Result<std::int64_t> {
          ++reads;
          return always;
        });
    const auto report = reading->read({{path}}, Collector().sink());
    ASSERT_FALSE(report.ok());
    EXPECT_EQ(report.error().kind, ErrorKind::io) << report.error().message;
    EXPECT_NE(report.error().message.find(path), std::string::npos);
    EXPECT_LE(reads, 2'100U);
  }
}

TEST_F(DirectReads, ADisksErrorNamesFileAndPlace) {
  const std::string path = file("weights", kMiB);
  const auto reading =
      tampered({64 * kKiB, 4}, [](const AskedRead& read, std::int64_t result) -> base::Result<std::int64_t> {
        return read.offset == 512 * kKiB ? -EIO : result;
      });
  const auto report = reading->read({{path}}, Collector().sink());
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.error().kind, ErrorKind::io);
  EXPECT_NE(report.error().message.find("byte 524288 of " + path + ": Input/output error"), std::string::npos)
      << report.error().message;
}

TEST_F(DirectReads, AReaderThatHasLostTrackReadsNothingMore) {
  const std::string path = file("weights", kMiB);
  const auto reading =
      tampered({64 * kKiB, 4}, [](const AskedRead& read, std::int64_t result) -> base::Result<std::int64_t> {
        if (read.number == 5) return base::Error{ErrorKind::io, "cannot wait for reads"};
        return result;
      });
  EXPECT_EQ(reading->read({{path}}, Collector().sink()).error().kind, ErrorKind::io);
  EXPECT_EQ(reading->read({{path}}, Collector().sink()).error().kind, ErrorKind::internal);
}

TEST_F(DirectReads, AQueueThatCannotBeMadeIsAnError) {
  auto memory = ReadMemory::allocate(4096).value();
  const auto opened = DirectReader::open_with({4096, 1}, memory.span(),
                                              [](const ReadSlots&) -> base::Result<std::unique_ptr<ReadQueue>> {
                                                return base::Error{ErrorKind::unavailable, "no queue"};
                                              });
  EXPECT_EQ(opened.error().kind, ErrorKind::unavailable);
}

TEST(SaidOnce, OnceForEachThing) {
  EXPECT_TRUE(first_time_said("a thing of this test"));
  EXPECT_FALSE(first_time_said("a thing of this test"));
  EXPECT_TRUE(first_time_said("another thing of this test"));
  EXPECT_FALSE(first_time_said("another thing of this test"));
}

}  // namespace
}  // namespace thaw::node::test
