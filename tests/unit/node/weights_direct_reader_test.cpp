#include "unit/node/direct_reader_harness.h"

namespace thaw::node::test {
namespace {

/// With io_uring, and with threads.
class DirectReadsBothWays : public DirectReads, public ::testing::WithParamInterface<bool> {};
INSTANTIATE_TEST_SUITE_P(Ways, DirectReadsBothWays, ::testing::Values(true, false),
                         [](const auto& way) { return std::string(way.param ? "Ring" : "Threads"); });

TEST_P(DirectReadsBothWays, WholeFilesWithOddEnds) {
  const auto reading = reader({64 * kKiB, 4}, GetParam());
  for (const std::uint64_t bytes : std::initializer_list<std::uint64_t>{1, 4095, 4096, 4097, 64 * kKiB, 64 * kKiB + 1,
                                                                        5 * 64 * kKiB, 3 * kMiB + 12345}) {
    const std::string path = file("weights", bytes);
    Collector collector;
    const auto report = reading->read({{path}}, collector.sink());
    ASSERT_TRUE(report.ok()) << report.error().message;
    EXPECT_EQ(report->bytes, bytes);
    EXPECT_EQ(collector.extent(0), Extent(0, bytes));
    EXPECT_EQ(collector.wrong_bytes(), 0U) << bytes;
    EXPECT_GT(report->bytes_per_s(), 0.0);
  }
}

TEST_P(DirectReadsBothWays, PartsOfFiles) {
  const std::string path = file("weights", kMiB + 77);
  const auto reading = reader({64 * kKiB, 3}, GetParam());
  const std::vector<ReadRange> ranges{
      {path, 4096, 10},              // less than a block
      {path, 128 * kKiB, 300'000},   // ends in the middle of one
      {path, kMiB, UINT64_MAX},      // the odd end
      {path, 2 * kMiB},              // behind the end: nothing
      {path, 0, 0},                  // nothing
      {path, kMiB, UINT64_MAX - 4},  // offset + bytes overflows
  };
  Collector collector;
  const auto report = reading->read(ranges, collector.sink());
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_EQ(collector.extent(0), Extent(4096, 4106));
  EXPECT_EQ(collector.extent(1), Extent(128 * kKiB, 128 * kKiB + 300'000));
  EXPECT_EQ(collector.extent(2), Extent(kMiB, kMiB + 77));
  EXPECT_EQ(collector.extent(3), Extent(0, 0));
  EXPECT_EQ(collector.extent(4), Extent(0, 0));
  EXPECT_EQ(collector.extent(5), Extent(kMiB, kMiB + 77));
  EXPECT_EQ(collector.wrong_bytes(), 0U);
  EXPECT_EQ(report->bytes, 10 + 300'000 + 77 + 77U);
}

TEST_P(DirectReadsBothWays, SeveralFilesAtOnceAndOneAfterTheOther) {
  const auto reading = reader({64 * kKiB, 8}, GetParam());
  std::vector<ReadRange> ranges;
  for (std::uint64_t i = 0; i < 8; ++i) ranges.push_back({file(std::to_string(i), 300 * kKiB + i * 1000)});
  for (int round = 0; round < 3; ++round) {
    Collector collector;
    const auto report = reading->read(ranges, collector.sink());
    ASSERT_TRUE(report.ok()) << report.error().message;
    for (std::uint64_t i = 0; i < 8; ++i) EXPECT_EQ(collector.extent(i), Extent(0, 300 * kKiB + i * 1000));
    EXPECT_EQ(collector.wrong_bytes(), 0U);
  }
  EXPECT_TRUE(reading->read({}, Collector().sink()).ok()) << "of nothing";
}

TEST_P(DirectReadsBothWays, MoreRangesThanDescriptors) {
  const std::string path = file("weights", 256 * kKiB);
  const auto reading = reader({4096, 16}, GetParam());
  std::vector<ReadRange> ranges(DirectReader::kMaxRanges, {path, 0, 4096});
  for (std::size_t i = 0; i < ranges.size(); ++i) ranges[i].offset = i % 64 * 4096;
  Collector collector;
  std::size_t descriptors = 0;
  const auto report = reading->read(ranges, [&, sink = collector.sink()](const ReadChunk& chunk) {
    if (chunk.range == 0)
      descriptors = static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
    return sink(chunk);
  });
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_EQ(report->bytes, DirectReader::kMaxRanges * 4096);
  EXPECT_EQ(collector.wrong_bytes(), 0U);
  EXPECT_LT(descriptors, 500U);

  ranges.push_back({path});
  EXPECT_EQ(reading->read(ranges, collector.sink()).error().kind, ErrorKind::invalid);
}

TEST_P(DirectReadsBothWays, ReadsFromTheDiskAndLeavesThePageCacheAlone) {
  const std::string path = file("weights", kMiB);
  if (!make_cold(path)) GTEST_SKIP() << "/var/tmp is no disk";
  const auto reading = reader({64 * kKiB, 4}, GetParam());
  const auto report = reading->read({{path}}, Collector().sink());
  ASSERT_TRUE(report.ok());
  if (report->buffered_bytes > 0) GTEST_SKIP() << "/var/tmp refuses direct I/O";
  EXPECT_EQ(resident_bytes_of(path), 0U);
}

TEST_P(DirectReadsBothWays, ASinksErrorEndsItAndTheNextReadIsWhole) {
  const std::string path = file("weights", 2 * kMiB);
  const auto reading = reader({64 * kKiB, 8}, GetParam());
  unsigned chunks = 0;
  const auto failed = reading->read({{path}}, [&chunks](const ReadChunk&) -> base::Status {
    if (++chunks == 3) return base::Error{ErrorKind::exhausted, "the device is full"};
    return {};
  });
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().kind, ErrorKind::exhausted);
  EXPECT_EQ(chunks, 3U);
  // Nothing arrives any more: the memory is ours.
  const auto memory = memory_.back().span();
  std::fill(memory.begin(), memory.end(), std::byte{42});
  EXPECT_TRUE(std::all_of(memory.begin(), memory.end(), [](std::byte byte) { return byte == std::byte{42}; }));
  Collector collector;
  ASSERT_TRUE(reading->read({{path}}, collector.sink()).ok());
  EXPECT_EQ(collector.extent(0), Extent(0, 2 * kMiB));
  EXPECT_EQ(collector.wrong_bytes(), 0U);
}

TEST_P(DirectReadsBothWays, AFileThatIsCutShortMeanwhileIsAnError) {
  const std::string path = file("weights", 4 * kMiB);
  const auto reading = reader({64 * kKiB, 2}, GetParam());
  const auto report = reading->read({{path}}, [&path](const ReadChunk&) -> base::Status {
    EXPECT_EQ(::truncate(path.c_str(), kMiB + 1000), 0);
    return {};
  });
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.error().kind, ErrorKind::invalid);
  EXPECT_NE(report.error().message.find(path + " was cut short"), std::string::npos) << report.error().message;
  EXPECT_NE(report.error().message.find(std::to_string(kMiB + 1000)), std::string::npos) << report.error().message;
}

TEST_P(DirectReadsBothWays, SignalsDoNotDisturbIt) {
  const std::string path = file("weights", 8 * kMiB);
  struct sigaction action {};
  struct sigaction before {};
  action.sa_handler = [](int) {};  // without SA_RESTART
  ASSERT_EQ(::sigaction(SIGUSR1, &action, &before), 0);
  const auto reading = reader({64 * kKiB, 4}, GetParam());
  std::atomic<bool> over{false};
  std::thread pest([&over, target = ::pthread_self()] {
    while (!over) {
      ::pthread_kill(target, SIGUSR1);
      std::this_thread::sleep_for(std::chrono::microseconds(200));  // a storm lets nothing else run under the thread sanitiser
    }
  });
  for (int round = 0; round < 3; ++round) {
    Collector collector;
    const auto report = reading->read({{path}}, collector.sink());
    EXPECT_TRUE(report.ok()) << report.error().message;
    EXPECT_EQ(collector.extent(0), Extent(0, 8 * kMiB));
    EXPECT_EQ(collector.wrong_bytes(), 0U);
  }
  over = true;
  pest.join();
  ::sigaction(SIGUSR1, &before, nullptr);
}

TEST_P(DirectReadsBothWays, WhatCannotBeReadIsNamed) {
  const auto reading = reader({64 * kKiB, 2}, GetParam());
  const auto failure = [&](const std::string& path, std::uint64_t offset = 0) {
    Collector collector;
    const auto report = reading->read({{path, offset}}, collector.sink());
    EXPECT_FALSE(report.ok()) << path;
    if (report.ok()) return ErrorKind::internal;
    EXPECT_NE(report.error().message.find(path), std::string::npos) << report.error().message;
    return report.error().kind;
  };
  const std::string path = file("weights", 10'000);
  const std::string fifo = directory_ / "fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_EQ(failure(directory_ / "missing"), ErrorKind::not_found);
  EXPECT_EQ(failure(path + "/below"), ErrorKind::not_found);
  EXPECT_EQ(failure(fifo), ErrorKind::invalid);
  EXPECT_EQ(failure(directory_ / "."), ErrorKind::invalid);
  EXPECT_EQ(failure("/dev/null"), ErrorKind::invalid);
  EXPECT_EQ(failure(path, 512), ErrorKind::invalid);
  EXPECT_EQ(failure(path, 4095), ErrorKind::invalid);
}

TEST_F(DirectReads, FilesTakeTurns) {
  const std::vector<ReadRange> ranges{{write_hole(directory_ / "huge", 4 * kMiB)}, {file("small", 128 * kKiB)}};
  std::map<unsigned, int> descriptors;  // of the reads, in the order in which they were begun
  const auto reading =
      tampered({64 * kKiB, 2}, [&](const AskedRead& read, std::int64_t result) -> base::Result<std::int64_t> {
        descriptors[read.number] = read.fd;
        return result;
      });
  ASSERT_TRUE(reading->read(ranges, [](const ReadChunk&) -> base::Status { return {}; }).ok());
  ASSERT_EQ(descriptors.size(), 66U);
  EXPECT_NE(descriptors[0], descriptors[1]);
  EXPECT_EQ(descriptors[2], descriptors[0]);
  EXPECT_EQ(descriptors[3], descriptors[1]);
  EXPECT_EQ(descriptors[5], descriptors[4]) << "the small one is over";
}

TEST_F(DirectReads, OtherPeoplesFilesAreDenied) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become somebody else";
  const std::string path = file("weights", 4096);
  ASSERT_EQ(::chmod(path.c_str(), 0600), 0);
  const auto reading = reader({4096, 1});
  const SomebodyElse me;
  EXPECT_EQ(reading->read({{path}}, Collector().sink()).error().kind, ErrorKind::denied);
}

TEST_F(DirectReads, SettingsAndMemoryAreChecked) {
  auto memory = ReadMemory::allocate(2 * kMiB).value();
  const auto opens = [&memory](const ReadSettings& settings, std::uint64_t at = 0) {
    const auto opened = DirectReader::open(settings, memory.span().subspan(at));
    EXPECT_TRUE(opened.ok() || opened.error().kind == ErrorKind::invalid);
    return opened.ok();
  };
  EXPECT_TRUE(opens({kMiB, 2}));
  EXPECT_TRUE(opens({4096, ReadSettings::kMaxDepth}));
  EXPECT_TRUE(opens({kMiB - 4096, 2}, 8192));
  EXPECT_FALSE(opens({0, 1}));
  EXPECT_FALSE(opens({512, 1}));
  EXPECT_FALSE(opens({4096 + 512, 1}));
  EXPECT_FALSE(opens({ReadSettings::kMaxChunkBytes + 4096, 1}));
  EXPECT_FALSE(opens({4096, 0}));
  EXPECT_FALSE(opens({4096, ReadSettings::kMaxDepth + 1}));
  EXPECT_FALSE(opens({kMiB, 3})) << "too little memory";
  EXPECT_FALSE(opens({4096, 1}, 512)) << "not aligned";
  EXPECT_FALSE(opens({UINT64_MAX / 4096 * 4096, 2})) << "overflows";
}

TEST_F(DirectReads, TheMemoryIsAlignedToHugePages) {
  for (const std::uint64_t bytes : std::initializer_list<std::uint64_t>{1, 4096, 2 * kMiB, 3 * kMiB + 1}) {
    const auto memory = ReadMemory::allocate(bytes);
    ASSERT_TRUE(memory.ok());
    EXPECT_EQ(memory->span().size(), bytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory->span().data()) % (2 * kMiB), 0U);
    std::fill(memory->span().begin(), memory->span().end(), std::byte{1});
  }
  EXPECT_FALSE(ReadMemory::allocate(0).ok());
  EXPECT_FALSE(ReadMemory::allocate(UINT64_MAX).ok());
  EXPECT_EQ(ReadMemory::allocate(1ULL << 46U).error().kind, ErrorKind::io);
}

// Files of sysfs refuse O_DIRECT when they are opened, on every kernel.
TEST_P(DirectReadsBothWays, AFileSystemThatRefusesDirectReadsIsReadThroughThePageCacheAndThatIsSaidOnce) {
  std::string path = "/sys/kernel/btf/vmlinux";  // 5 MB where the kernel has it
  if (!std::filesystem::exists(path)) path = "/sys/kernel/notes";
  const Fd direct(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT));
  if (direct || !std::filesystem::exists(path)) GTEST_SKIP() << path << " does not refuse";
  const Fd plain(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::vector<char> expected(std::filesystem::file_size(path));
  for (std::size_t at = 0; at < expected.size();) {
    const ssize_t got = ::pread(plain.get(), expected.data() + at, expected.size() - at, static_cast<off_t>(at));
    if (got <= 0) GTEST_SKIP() << path << " is not readable";
    at += static_cast<std::size_t>(got);
  }
  const Log log;
  for (int round = 0; round < 2; ++round) {
    const auto reading = reader({64 * kKiB, 4}, GetParam());
    std::vector<char> got(expected.size());
    const auto report = reading->read({{path}}, [&got](const ReadChunk& chunk) -> base::Status {
      std::copy_n(reinterpret_cast<const char*>(chunk.bytes.data()), chunk.bytes.size(),
                  got.begin() + static_cast<std::ptrdiff_t>(chunk.offset));
      return {};
    });
    ASSERT_TRUE(report.ok()) << report.error().message;
    EXPECT_EQ(report->bytes, expected.size());
    EXPECT_EQ(report->buffered_bytes, expected.size());
    EXPECT_TRUE(got == expected);
  }
  EXPECT_LE(log.count("page cache"), 1U);
}

}  // namespace
}  // namespace thaw::node::test
