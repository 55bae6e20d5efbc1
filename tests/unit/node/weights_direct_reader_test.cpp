#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>
#include <sys/fsuid.h>
#include <sys/stat.h>

#include <atomic>
#include <map>
#include <numeric>
#include <set>
#include <sstream>

#include "node/weights/direct_file.h"
#include "node/weights/direct_reader.h"
#include "node/weights/read_memory.h"
#include "node/weights/read_queue.h"
#include "node/weights/said_once.h"
#include "unit/node/weights_files.h"

namespace thaw::node::test {
namespace {

using base::ErrorKind;
constexpr std::uint64_t kKiB = 1ULL << 10;
constexpr std::uint64_t kMiB = 1ULL << 20;

/// Takes chunks and keeps what arrived of each range, once.
class Collector {
 public:
  DirectReader::Sink sink() {
    return [this](const ReadChunk& chunk) -> base::Status {
      auto& range = arrived_[chunk.range];
      for (std::uint64_t i = 0; i < chunk.bytes.size(); ++i)
        wrong_ += static_cast<char>(chunk.bytes[i]) != byte_at(chunk.offset + i) ? 1U : 0U;
      EXPECT_TRUE(range.emplace(chunk.offset, chunk.bytes.size()).second) << "twice";
      return {};
    };
  }
  [[nodiscard]] std::uint64_t wrong_bytes() const { return wrong_; }
  /// [first, last) of a range, when it arrived without holes; nothing else counts.
  [[nodiscard]] std::pair<std::uint64_t, std::uint64_t> extent(std::size_t range) const {
    const auto found = arrived_.find(range);
    if (found == arrived_.end()) return {0, 0};
    const std::uint64_t first = found->second.begin()->first;
    std::uint64_t next = first;
    for (const auto& [offset, bytes] : found->second) {
      if (offset != next) return {UINT64_MAX, UINT64_MAX};
      next = offset + bytes;
    }
    return {first, next};
  }

 private:
  std::map<std::size_t, std::map<std::uint64_t, std::uint64_t>> arrived_;
  std::uint64_t wrong_ = 0;
};

using Extent = std::pair<std::uint64_t, std::uint64_t>;

struct AskedRead {
  std::uint64_t from = 0;
  int fd = -1;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  unsigned number = 0;  ///< how many were asked for before it
};

/// Reads through a real queue, and says otherwise what came of a read where `tamper` does. Holds the reader to what it
/// owes a queue.
class TamperingQueue : public ReadQueue {
 public:
  using Tamper = std::function<base::Result<std::int64_t>(const AskedRead&, std::int64_t)>;

  TamperingQueue(std::unique_ptr<ReadQueue> real, Tamper tamper) : real_(std::move(real)), tamper_(std::move(tamper)) {}
  TamperingQueue(const TamperingQueue&) = delete;
  TamperingQueue& operator=(const TamperingQueue&) = delete;
  ~TamperingQueue() override { EXPECT_TRUE(asked_.empty() || lost_) << "reads are under way"; }

  void begin(unsigned slot, std::uint64_t from, int fd, std::uint64_t offset, std::uint64_t bytes) override {
    EXPECT_TRUE(asked_.try_emplace(slot, AskedRead{from, fd, offset, bytes, count_++}).second)
        << "slot " << slot << " is not free";
    real_->begin(slot, from, fd, offset, bytes);
  }
  base::Result<ReadCompletion> wait() override {
    EXPECT_FALSE(asked_.empty()) << "nothing is under way";
    THAW_ASSIGN_OR_RETURN(ReadCompletion completion, real_->wait());
    const AskedRead asked = asked_.at(completion.slot);
    asked_.erase(completion.slot);
    auto result = tamper_(asked, completion.result);
    lost_ = lost_ || !result.ok();
    THAW_ASSIGN_OR_RETURN(completion.result, std::move(result));
    return completion;
  }

 private:
  std::unique_ptr<ReadQueue> real_;
  Tamper tamper_;
  std::map<unsigned, AskedRead> asked_;
  unsigned count_ = 0;
  bool lost_ = false;
};

/// Other people's files are closed to this thread for as long as it lives.
class SomebodyElse {
 public:
  SomebodyElse() { ::setfsuid(65534); }
  ~SomebodyElse() { ::setfsuid(0); }
  SomebodyElse(const SomebodyElse&) = delete;
  SomebodyElse& operator=(const SomebodyElse&) = delete;
};

/// What is logged meanwhile.
class Log {
 public:
  Log() : before_(spdlog::default_logger()) {
    spdlog::set_default_logger(
        std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::ostream_sink_mt>(text_)));
  }
  ~Log() { spdlog::set_default_logger(before_); }
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;
  [[nodiscard]] std::size_t count(const std::string& words) const {
    std::size_t found = 0;
    const std::string all = text_.str();
    for (std::size_t at = all.find(words); at != std::string::npos; at = all.find(words, at + 1)) ++found;
    return found;
  }

 private:
  std::ostringstream text_;
  std::shared_ptr<spdlog::logger> before_;
};

bool is_direct(int fd) {
  return (::fcntl(fd, F_GETFL) & O_DIRECT) != 0;
}

class DirectReads : public ::testing::Test {
 protected:
  std::unique_ptr<DirectReader> reader(const ReadSettings& settings, bool with_ring = true) {
    memory_.push_back(ReadMemory::allocate(settings.memory_bytes()).value());
    auto opened = DirectReader::open(settings, memory_.back().span(), with_ring);
    EXPECT_TRUE(opened.ok());
    return std::move(opened).value();
  }
  std::unique_ptr<DirectReader> tampered(const ReadSettings& settings, const TamperingQueue::Tamper& tamper) {
    memory_.push_back(ReadMemory::allocate(settings.memory_bytes()).value());
    auto opened = DirectReader::open_with(
        settings, memory_.back().span(), [&tamper](const ReadSlots& slots) -> base::Result<std::unique_ptr<ReadQueue>> {
          return std::unique_ptr<ReadQueue>(std::make_unique<TamperingQueue>(make_thread_queue(slots), tamper));
        });
    EXPECT_TRUE(opened.ok());
    return std::move(opened).value();
  }
  std::string file(const std::string& name, std::uint64_t bytes) {
    const std::string path = write_weights(directory_ / name, bytes);
    EXPECT_FALSE(path.empty());
    return path;
  }

  DiskDirectory directory_;
  std::vector<ReadMemory> memory_;
};

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
