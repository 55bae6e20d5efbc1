#include "control/warm_weights.h"

namespace thaw::control {

void WarmWeights::used(const Model& model, std::uint64_t bytes, std::uint64_t capacity_bytes) {
  forget(model);
  entries_.push_front({&model, bytes});
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
  if (found != by_model_.end()) entries_.splice(entries_.end(), entries_, found->second);
}

void WarmWeights::forget(const Model& model) {
  const auto found = by_model_.find(&model);
  if (found == by_model_.end()) return;
  bytes_ -= found->second->bytes;
  entries_.erase(found->second);
  by_model_.erase(found);
}

}  // namespace thaw::control
