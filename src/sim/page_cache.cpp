#include "sim/page_cache.h"

namespace thaw::sim {

std::uint64_t PageCache::resident(std::uint32_t model) const {
  const auto found = by_model_.find(model);
  return found == by_model_.end() ? 0 : found->second->bytes;
}

void PageCache::keep(std::uint32_t model, std::uint64_t bytes) {
  const auto found = by_model_.find(model);
  if (found == by_model_.end() || found->second->bytes <= bytes) return;
  used_bytes_ -= found->second->bytes - bytes;
  found->second->bytes = bytes;
  if (bytes > 0) return;
  entries_.erase(found->second);
  by_model_.erase(found);
}

void PageCache::use(std::uint32_t model, std::uint64_t bytes) {
  const auto found = by_model_.find(model);
  if (found != by_model_.end()) {
    entries_.splice(entries_.begin(), entries_, found->second);
    used_bytes_ += bytes - found->second->bytes;
    found->second->bytes = bytes;
    return trim();
  }
  if (bytes > capacity_bytes_) return;
  entries_.push_front({model, bytes});
  by_model_.emplace(model, entries_.begin());
  used_bytes_ += bytes;
  trim();
}

void PageCache::demote(std::uint32_t model) {
  const auto found = by_model_.find(model);
  if (found != by_model_.end()) entries_.splice(entries_.end(), entries_, found->second);
}

void PageCache::resize(std::uint64_t capacity_bytes) {
  capacity_bytes_ = capacity_bytes;
  trim();
}

void PageCache::trim() {
  while (used_bytes_ > capacity_bytes_) {
    used_bytes_ -= entries_.back().bytes;
    by_model_.erase(entries_.back().model);
    entries_.pop_back();
  }
}

}  // namespace thaw::sim
