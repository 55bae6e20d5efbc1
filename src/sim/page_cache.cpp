#include "sim/page_cache.h"

namespace thaw::sim {

void PageCache::use(std::uint32_t model, std::uint64_t bytes) {
  const auto found = by_model_.find(model);
  if (found != by_model_.end()) {
    entries_.splice(entries_.begin(), entries_, found->second);
    return;
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
