#pragma once

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

inline bool is_direct(int fd) {
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

}  // namespace thaw::node::test
