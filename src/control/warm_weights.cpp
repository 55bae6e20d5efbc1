#include "control/warm_weights.h"

#include <algorithm>

namespace thaw::control {

void WarmWeights::used(const Model& model, std::uint64_t bytes, std::uint64_t capacity_bytes, base::TimePoint now) {
  forget(model);
  entries_.push_front({&model, bytes, now});
  by_model_.emplace(&model, entries_.begin());
  bytes_ += bytes;
  resize(capacity_bytes);
}

void WarmWeights::resize(std::uint64_t capacity_bytes) {
  while (bytes_ > capacity_bytes) {
    bytes_ -= entries_.back().bytes;
    by_model_.erase(entries_.back().model);
    entries_.pop_back();
  }
}

void WarmWeights::may_leave(const Model& model) {
  const auto found = by_model_.find(&model);
  if (found == by_model_.end()) return;
  found->second->used_at = {};
  entries_.splice(entries_.end(), entries_, found->second);
}

bool WarmWeights::spares(std::uint64_t bytes, std::uint64_t capacity_bytes, base::TimePoint since) const {
  std::uint64_t room = capacity_bytes - std::min(capacity_bytes, bytes_);
  for (auto entry = entries_.rbegin(); room < bytes && entry != entries_.rend() && entry->used_at <= since; ++entry) room += entry->bytes;
  return room >= bytes;
}

void WarmWeights::forget(const Model& model) {
  const auto found = by_model_.find(&model);
  if (found == by_model_.end()) return;
  bytes_ -= found->second->bytes;
  entries_.erase(found->second);
  by_model_.erase(found);
}

}  // namespace thaw::control
