#include "node/pull/settler.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "node/images/digest.h"
#include "node/sandbox/clock.h"

namespace thaw::node::pull {
namespace {

constexpr std::size_t kReadBytes = 1U << 20;
constexpr std::uint64_t kWriteBehind = 16ULL << 20;
constexpr auto kLookAgain = base::Millis(200);

}  // namespace

struct Settler::Hash {
  Sha256 digest;
  std::vector<char> chunk = std::vector<char>(kReadBytes);
};

Settler::Settler(int fd, BlobStore& store, std::string key, Journal journal, bool resumable)
    : fd_(fd), store_(store), key_(std::move(key)), resumable_(resumable), journal_(std::move(journal)), hash_(std::make_unique<Hash>()) {
  for (const Range& range : journal_.ranges) have_.add(range);
  durable_bytes_ = have_.bytes();
  thread_ = std::thread([this] { run(); });
}

Settler::~Settler() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Settler::arrived(Range range) {
  bool wake = false;
  {
    const std::lock_guard lock(mutex_);
    const std::uint64_t before = have_.prefix() / kReadBytes;
    have_.add(range);
    wake = have_.prefix() / kReadBytes != before;
  }
  if (wake) changed_.notify_all();
}

RangeSet Settler::have() const {
  const std::lock_guard lock(mutex_);
  return have_;
}

base::Status Settler::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

base::Result<std::string> Settler::finish(std::uint64_t total_bytes) {
  std::unique_lock lock(mutex_);
  finishing_ = true;
  total_bytes_ = total_bytes;
  changed_.notify_all();
  changed_.wait(lock, [this] { return !sha256_.empty() || !status_.ok(); });
  if (!status_.ok()) return status_.error();
  return sha256_;
}

base::Status Settler::hash_up_to(std::uint64_t end) {
  while (hashed_ < end) {
    const std::size_t want = std::min<std::uint64_t>(hash_->chunk.size(), end - hashed_);
    const ssize_t got = ::pread(fd_, hash_->chunk.data(), want, static_cast<off_t>(hashed_));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return base::errno_error("cannot read back what was fetched, " + store_.part_path(key_), got < 0 ? errno : EIO);
    hash_->digest.add({hash_->chunk.data(), static_cast<std::size_t>(got)});
    hashed_ += static_cast<std::uint64_t>(got);
    if (hashed_ - begun_to_write_ >= kWriteBehind) {
      // So that the last fdatasync has little left to do. Where it is not known it is not needed either.
      (void)::sync_file_range(fd_, static_cast<off_t>(begun_to_write_), static_cast<off_t>(hashed_ - begun_to_write_), SYNC_FILE_RANGE_WRITE);
      begun_to_write_ = hashed_;
    }
  }
  return {};
}

/// The data first: the journal says what is durable.
base::Status Settler::write_journal() {
  Journal journal;
  {
    const std::lock_guard lock(mutex_);
    journal = journal_;
    journal.ranges = have_.ranges();
  }
  if (::fdatasync(fd_) != 0) return base::errno_error("cannot write " + store_.part_path(key_) + " to disk", errno);
  THAW_RETURN_IF_ERROR(store_.put_journal(key_, to_json(journal)));
  durable_bytes_ = 0;
  for (const Range& range : journal.ranges) durable_bytes_ += range.bytes();
  return {};
}

void Settler::run() {
  std::unique_lock lock(mutex_);
  base::TimePoint written = now();
  while (status_.ok()) {
    changed_.wait_for(lock, kLookAgain, [this] { return ending_ || finishing_ || have_.prefix() / kReadBytes > hashed_ / kReadBytes; });
    const std::uint64_t prefix = have_.prefix();
    const std::uint64_t bytes = have_.bytes();
    const bool ending = ending_;
    const bool finishing = finishing_;
    const std::uint64_t total_bytes = total_bytes_;
    lock.unlock();
    base::Status status;
    std::string sha256;
    if (!ending) status = hash_up_to(finishing ? total_bytes : std::min(prefix, hashed_ + kWriteBehind));
    const bool due = bytes > durable_bytes_ && (ending || bytes - durable_bytes_ >= kJournalBytes || now() - written >= kJournalInterval);
    if (status.ok() && resumable_ && due && !finishing) {
      status = write_journal();
      written = now();
    }
    if (status.ok() && finishing && !ending) {
      if (::fdatasync(fd_) != 0) status = base::errno_error("cannot write " + store_.part_path(key_) + " to disk", errno);
      sha256 = hash_->digest.finish();
    }
    lock.lock();
    status_ = std::move(status);
    if (!sha256.empty()) {
      sha256_ = std::move(sha256);
      changed_.notify_all();
      return;
    }
    if (ending) return;
  }
  changed_.notify_all();
}

}  // namespace thaw::node::pull
