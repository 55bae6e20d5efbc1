#include "node/pull/block_table.h"

#include "node/pull/part_file.h"

namespace thaw::node::pull {

std::span<const std::byte> Block::bytes() const {
  return {memory + begin % BlockTable::kBlockBytes, end - begin};
}

std::byte* Block::free() const {
  return memory + begin % BlockTable::kBlockBytes + (end - begin);
}

std::uint64_t Block::limit() const {
  return (begin / BlockTable::kBlockBytes + 1) * BlockTable::kBlockBytes;
}

base::Result<BlockTable> BlockTable::make(std::size_t blocks) {
  auto memory = ReadMemory::allocate(blocks * kBlockBytes);
  if (!memory.ok()) return memory.error();
  BlockTable table(*std::move(memory));
  for (std::size_t i = blocks; i-- > 0;) table.free_.push_back(table.memory_.span().data() + i * kBlockBytes);
  return table;
}

Block* BlockTable::open(std::uint64_t at) {
  if (free_.empty()) return nullptr;
  Block block;
  block.memory = free_.back();
  block.begin = block.end = at;
  const auto [place, fresh] = blocks_.emplace(at, block);
  if (!fresh) return nullptr;  // the same byte twice: whoever asks is wrong
  free_.pop_back();
  return &place->second;
}

void BlockTable::hand_over(Block& block) {
  if (block.end > block.begin)
    block.handed_over = true;
  else
    release(block);
}

std::vector<Block*> BlockTable::next_run() {
  std::vector<Block*> run;
  for (auto& [begin, block] : blocks_) {
    const bool waits = block.handed_over && !block.writing && !block.written;
    const bool follows = run.empty() || (run.back()->end == begin && begin % PartFile::kAlignBytes == 0);
    if (waits && follows && run.size() < kLongestRun)
      run.push_back(&block);
    else if (!run.empty())
      break;
  }
  for (Block* block : run) block->writing = true;
  return run;
}

void BlockTable::written(const std::vector<Block*>& run) {
  for (Block* block : run) {
    block->writing = false;
    block->written = true;
    if (block->hashed) release(*block);
  }
}

void BlockTable::hashed(Block& block) {
  block.hashing = false;
  block.hashed = true;
  if (block.written) release(block);
}

Block* BlockTable::find(std::uint64_t begin) {
  const auto found = blocks_.find(begin);
  return found == blocks_.end() || !found->second.handed_over ? nullptr : &found->second;
}

std::optional<std::uint64_t> BlockTable::next_begin(std::uint64_t at) const {
  const auto next = blocks_.lower_bound(at);
  return next == blocks_.end() ? std::nullopt : std::optional(next->first);
}

bool BlockTable::drop_furthest() {
  for (auto entry = blocks_.rbegin(); entry != blocks_.rend(); ++entry)
    if (entry->second.written && !entry->second.hashing) {
      release(entry->second);
      return true;
    }
  return false;
}

void BlockTable::release(Block& block) {
  free_.push_back(block.memory);
  blocks_.erase(block.begin);
}

}  // namespace thaw::node::pull
