#include "node/pull/settler.h"

#include <algorithm>
#include <cstring>

#include "node/images/digest.h"
#include "node/sandbox/clock.h"

namespace thaw::node::pull {
namespace {

constexpr std::uint64_t kReadBytes = BlockTable::kBlockBytes;
constexpr std::size_t kSpareBlocks = 4;  // beside those that connections fill

std::string_view text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

struct Settler::Hash {
  Sha256 digest;
  std::optional<ReadMemory> memory;  ///< for what has to be read back
};

base::Result<std::unique_ptr<Settler>> Settler::make(PartFile& file, BlobStore& store, std::string key, Journal journal, const Options& options) {
  auto blocks = BlockTable::make(std::max(options.blocks, options.connections + kSpareBlocks));
  if (!blocks.ok()) return blocks.error();
  return std::unique_ptr<Settler>(new Settler(file, store, std::move(key), std::move(journal), options.resumable, *std::move(blocks)));
}

Settler::Settler(PartFile& file, BlobStore& store, std::string key, Journal journal, bool resumable, BlockTable blocks)
    : file_(file),
      store_(store),
      key_(std::move(key)),
      resumable_(resumable),
      journal_(std::move(journal)),
      blocks_(std::move(blocks)),
      hash_(std::make_unique<Hash>()),
      journaled_at_(now()) {
  for (const Range& range : journal_.ranges) have_.add(range);
  written_ = have_;
  journaled_bytes_ = have_.bytes();
  writer_ = std::thread([this] { write_all(); });
  hasher_ = std::thread([this] { hash_all(); });
}

Settler::~Settler() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  to_write_.notify_all();
  to_hash_.notify_all();
  writer_.join();
  hasher_.join();
}

base::Status Settler::open_block(Block*& open, std::uint64_t at) {
  std::unique_lock lock(mutex_);
  for (;;) {
    if (!status_.ok()) return status_;
    open = blocks_.open(at);
    if (open != nullptr) break;
    // Reading back costs the disk's time: not while the hasher is about to free one anyhow.
    const bool hash_frees_one = blocks_.find(hashed_) != nullptr;
    if (hash_frees_one || !blocks_.drop_furthest()) freed_.wait(lock);
  }
  open->since = now();
  return {};
}

base::Status Settler::take(Block*& open, std::uint64_t at, std::string_view bytes, std::uint64_t end) {
  while (!bytes.empty()) {
    if (open == nullptr) THAW_RETURN_IF_ERROR(open_block(open, at));
    const std::uint64_t limit = std::min(open->limit(), end);
    const std::size_t count = std::min<std::uint64_t>(bytes.size(), limit - at);
    std::memcpy(open->free(), bytes.data(), count);
    at += count;
    open->end = at;
    bytes.remove_prefix(count);
    if (at == limit) hand_over(open);
  }
  return {};
}

void Settler::hand_over(Block*& open) {
  if (open == nullptr) return;
  {
    const std::lock_guard lock(mutex_);
    have_.add({open->begin, open->end});
    blocks_.hand_over(*open);
  }
  open = nullptr;
  to_write_.notify_one();
  to_hash_.notify_one();
}

void Settler::hand_over_old(Block*& open, base::TimePoint time) {
  if (open != nullptr && time - open->since >= kHoldAtMost) hand_over(open);
}

RangeSet Settler::have() const {
  const std::lock_guard lock(mutex_);
  return have_;
}

std::uint64_t Settler::have_bytes() const {
  const std::lock_guard lock(mutex_);
  return have_.bytes();
}

base::Status Settler::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

/// With the lock.
void Settler::fail(const base::Status& status) {
  if (status_.ok()) status_ = status;
  for (std::condition_variable* all : {&to_write_, &to_hash_, &freed_, &done_}) all->notify_all();
}

base::Result<std::string> Settler::finish(std::uint64_t total_bytes) {
  std::unique_lock lock(mutex_);
  finishing_ = true;
  total_bytes_ = total_bytes;
  to_write_.notify_all();
  to_hash_.notify_all();
  done_.wait(lock, [this] { return !status_.ok() || (durable_ && !sha256_.empty()); });
  if (!status_.ok()) return status_.error();
  return sha256_;
}

void Settler::write(std::unique_lock<std::mutex>& lock, const std::vector<Block*>& run) {
  lock.unlock();
  std::vector<std::span<const std::byte>> pieces;
  for (const Block* block : run) pieces.push_back(block->bytes());
  const Range range{run.front()->begin, run.back()->end};
  const base::Status status = file_.write(pieces, range.begin);
  lock.lock();
  if (!status.ok() && run.size() > 1) {
    // A disk that is full took some of them: these are worth keeping, and which they are only single writes tell.
    for (auto block = run.begin(); block != run.end() && status_.ok(); ++block) write(lock, {*block});
    return;
  }
  if (!status.ok()) return fail(status);
  written_.add(range);
  blocks_.written(run);
  freed_.notify_one();
}

/// The data first: the journal says what is durable.
void Settler::write_journal(std::unique_lock<std::mutex>& lock) {
  Journal journal = journal_;
  journal.ranges = written_.ranges();
  const std::uint64_t bytes = written_.bytes();
  lock.unlock();
  base::Status status = file_.sync();
  sync_failed_ = !status.ok();
  if (status.ok()) status = store_.put_journal(key_, to_json(journal));
  lock.lock();
  journaled_bytes_ = bytes;
  journaled_at_ = now();
  if (!status.ok()) fail(status);
}

void Settler::write_all() {
  std::unique_lock lock(mutex_);
  while (status_.ok()) {
    const std::vector<Block*> run = blocks_.next_run();
    const bool news = resumable_ && written_.bytes() > journaled_bytes_;
    if (news && !finishing_ && now() - journaled_at_ >= kJournalInterval) write_journal(lock);
    if (!run.empty()) {
      write(lock, run);
    } else if (ending_) {
      break;
    } else if (finishing_ && written_.bytes() == total_bytes_) {
      lock.unlock();
      const base::Status status = file_.sync();
      lock.lock();
      if (!status.ok()) {
        sync_failed_ = true;
        fail(status);
        break;
      }
      durable_ = true;
      done_.notify_all();
      return;
    } else if (news && !finishing_) {
      to_write_.wait_for(lock, std::max<base::Duration>(journaled_at_ + kJournalInterval - now(), base::Millis(1)));
    } else {
      to_write_.wait(lock);
    }
  }
  // What is there is worth keeping also when the disk has failed since, or is full; but not when it does not say what it has.
  to_write_.wait(lock, [this] { return ending_; });
  if (resumable_ && !sync_failed_ && written_.bytes() > journaled_bytes_) write_journal(lock);
}

void Settler::hash(std::unique_lock<std::mutex>& lock, Block& block) {
  block.hashing = true;
  lock.unlock();
  hash_->digest.add(text(block.bytes()));
  lock.lock();
  hashed_ = block.end;
  blocks_.hashed(block);
  freed_.notify_one();
}

/// What comes next for the hash, is on the disk and in memory no more.
std::optional<Range> Settler::to_read_back() const {
  const auto gap = written_.first_gap(hashed_, UINT64_MAX);
  std::uint64_t end = std::min(gap ? gap->begin : UINT64_MAX, hashed_ + kReadBytes);
  if (const auto next = blocks_.next_begin(hashed_)) end = std::min(end, *next);
  return end > hashed_ ? std::optional(Range{hashed_, end}) : std::nullopt;
}

void Settler::read_back(std::unique_lock<std::mutex>& lock, Range range) {
  lock.unlock();
  base::Status status;
  std::uint64_t read_bytes = 0;
  if (!hash_->memory) {
    if (auto memory = ReadMemory::allocate(kReadBytes + 2 * PartFile::kAlignBytes); memory.ok())
      hash_->memory.emplace(*std::move(memory));
    else
      status = memory.error();
  }
  if (status.ok()) {
    if (const auto bytes = file_.read(hash_->memory->span(), range.begin, range.bytes()); bytes.ok()) {
      hash_->digest.add(text(*bytes));
      read_bytes = bytes->size();
    } else {
      status = bytes.error();
    }
  }
  lock.lock();
  hashed_ += read_bytes;
  if (!status.ok()) fail(status);
}

void Settler::hash_all() {
  std::unique_lock lock(mutex_);
  while (status_.ok() && !ending_) {
    if (Block* block = blocks_.find(hashed_)) {
      hash(lock, *block);
    } else if (const auto range = to_read_back()) {
      read_back(lock, *range);
    } else if (finishing_ && hashed_ == total_bytes_) {
      sha256_ = hash_->digest.finish();
      done_.notify_all();
      return;
    } else {
      freed_.notify_one();  // it is no good to wait for this thread now
      to_hash_.wait(lock);
    }
  }
}

}  // namespace thaw::node::pull
