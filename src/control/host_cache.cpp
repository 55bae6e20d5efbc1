#include "control/host_cache.h"

#include <algorithm>

namespace thaw::control {
namespace {

std::uint64_t minus(std::uint64_t from, std::uint64_t amount) {
  return from > amount ? from - amount : 0;
}

}  // namespace

std::uint64_t HostCache::counted(const Weights& weights) {
  if (weights.on_cpu > 0) return 0;
  // What is being read is on its way in, and counts before it is there.
  return weights.starting > 0 ? std::max(weights.resident_bytes, weights.weights_bytes) : weights.resident_bytes;
}

std::uint64_t HostCache::budget_bytes() const {
  return std::min(info_.max_bytes, minus(info_.shared_bytes, reserved_bytes_));
}

bool HostCache::evictable(const Weights& weights, base::TimePoint now) const {
  return weights.replicas == weights.resting + weights.copied && weights.pinned_by.empty() && weights.evicting_bytes == 0 &&
         (weights.retry == base::Duration::zero() || weights.retry_at <= now);
}

template <typename Change>
void HostCache::update(Weights& weights, const Change& change) {
  cached_bytes_ -= counted(weights);
  evicting_bytes_ -= weights.evicting_bytes;
  change();
  cached_bytes_ += counted(weights);
  evicting_bytes_ += weights.evicting_bytes;
}

// --- models

void HostCache::model_deployed(const spec::ModelSpec& spec, CacheActions& out) {
  if (const auto before = by_model_.find(spec.name);
      before != by_model_.end() && before->second->first != spec.source.path)
    leave(spec.name, out);
  const auto [entry, fresh] = entries_.try_emplace(spec.source.path);
  entry->second.models.insert(spec.name);
  if (spec.cache.pin)
    entry->second.pinned_by.insert(spec.name);
  else
    entry->second.pinned_by.erase(spec.name);
  by_model_.insert_or_assign(spec.name, entry);
  look(entry, out);  // also when it is known: whoever deploys has perhaps changed the files
}

void HostCache::model_removed(const base::ModelName& model, base::TimePoint now, CacheActions& out) {
  leave(model, out);
  enforce(now, out);  // what it had pinned may leave
}

void HostCache::leave(const base::ModelName& model, CacheActions& out) {
  const auto found = by_model_.find(model);
  if (found == by_model_.end()) return;
  const auto entry = found->second;
  by_model_.erase(found);
  entry->second.models.erase(model);
  entry->second.pinned_by.erase(model);
  forget_if_unused(entry, out);
}

void HostCache::forget_if_unused(Entries::iterator entry, CacheActions& out) {
  const Weights& weights = entry->second;
  if (!weights.models.empty() || weights.replicas > 0 || weights.evicting_bytes > 0) return;
  out.emplace_back(wire::EvictWeights{entry->first, 0});  // its answer finds no entry, or the one of a later deploy
  update(entry->second, [&] { entry->second.resident_bytes = 0; });
  entries_.erase(entry);
}

void HostCache::requested(const base::ModelName& model, base::TimePoint now) {
  const auto found = by_model_.find(model);
  if (found == by_model_.end()) return;
  found->second->second.uses.note(now);
  found->second->second.last_used = now;
}

// --- instances

void HostCache::instance_starting(base::InstanceId instance, const spec::ModelSpec& spec, base::TimePoint now,
                                  CacheActions& out) {
  const auto entry = entries_.try_emplace(spec.source.path).first;
  const bool on_cpu = spec.resources.device == spec::DeviceKind::cpu;
  instances_.insert_or_assign(instance, Placed{entry->first, on_cpu});
  Weights& weights = entry->second;
  update(weights, [&] {
    ++weights.replicas;
    ++weights.starting;
    if (on_cpu) ++weights.on_cpu;
  });
  weights.last_used = now;
  weights.retry = {};
  weights.why_left.clear();
  enforce(now, out);
}

void HostCache::instance_ready(base::InstanceId instance, bool copied, base::TimePoint now, CacheActions& out) {
  const auto found = instances_.find(instance);
  if (found == instances_.end()) return;
  Placed& placed = found->second;
  const auto entry = entries_.find(placed.source);
  update(entry->second, [&] {
    if (placed.starting) --entry->second.starting;
    if (placed.resting) --entry->second.resting;
    if (copied && placed.on_cpu) {
      --entry->second.on_cpu;
      ++entry->second.copied;
      placed.on_cpu = false;
      placed.copied = true;
    }
  });
  placed.starting = placed.resting = false;
  look(entry, out);
  enforce(now, out);
}

void HostCache::instance_resting(base::InstanceId instance, base::TimePoint now, CacheActions& out) {
  const auto found = instances_.find(instance);
  if (found == instances_.end()) return;
  Placed& placed = found->second;
  const auto entry = entries_.find(placed.source);
  if (!placed.on_cpu && !placed.copied && !placed.resting) {
    placed.resting = true;
    ++entry->second.resting;
  }
  look(entry, out);
  enforce(now, out);
}

void HostCache::instance_gone(base::InstanceId instance, base::TimePoint now, CacheActions& out) {
  const auto found = instances_.find(instance);
  if (found == instances_.end()) return;
  const Placed placed = std::move(found->second);
  instances_.erase(found);
  const auto entry = entries_.find(placed.source);
  Weights& weights = entry->second;
  update(weights, [&] {
    --weights.replicas;
    if (placed.starting) --weights.starting;
    if (placed.resting) --weights.resting;
    if (placed.on_cpu) --weights.on_cpu;
    if (placed.copied) --weights.copied;
  });
  weights.last_used = now;
  if (weights.models.empty())
    forget_if_unused(entry, out);
  else
    look(entry, out);
  enforce(now, out);
}

void HostCache::reserved(std::uint64_t bytes, base::TimePoint now, CacheActions& out) {
  reserved_bytes_ = bytes;
  enforce(now, out);
}

// --- the node's answers

void HostCache::weights_state(const wire::WeightsState& state, base::TimePoint now, CacheActions& out) {
  take(state, now);
  enforce(now, out);
}

void HostCache::weights_states(const std::vector<std::optional<wire::WeightsState>>& states, base::TimePoint now,
                               CacheActions& out) {
  for (const auto& state : states)
    if (state) take(*state, now);
  enforce(now, out);
}

void HostCache::take(const wire::WeightsState& state, base::TimePoint now) {
  const auto entry = entries_.find(state.source);
  if (entry == entries_.end()) return;
  Weights& weights = entry->second;
  const bool moving = weights.replicas > 0 && weights.on_cpu == 0 && weights.resident_bytes != state.resident_bytes;
  update(weights, [&] {
    weights.weights_bytes = state.weights_bytes;
    weights.resident_bytes = state.resident_bytes;
  });
  weights.known = state.resident_known;
  if (state.read_bytes_per_s > 0) weights.read_bytes_per_s = static_cast<double>(state.read_bytes_per_s);
  if (moving && !weights.look_again) due_.emplace(now + kLookAgain, state.source);
  weights.look_again = weights.look_again || moving;
}

void HostCache::weights_evicted(const wire::WeightsEvicted& evicted, base::TimePoint now, CacheActions& out) {
  if (evicted.freed_bytes > 0) ++evictions_;
  evicted_bytes_ += evicted.freed_bytes;
  if (!evicted.why_left.empty()) ++failed_evictions_;
  const auto entry = entries_.find(evicted.source);
  if (entry == entries_.end()) return;
  Weights& weights = entry->second;
  update(weights, [&] {
    weights.evicting_bytes = 0;
    weights.resident_bytes = evicted.resident_bytes;
  });
  weights.why_left = evicted.why_left;
  if (evicted.why_left.empty()) {
    weights.retry = {};
  } else {
    weights.retry =
        weights.retry == base::Duration::zero() ? kFirstRetry : std::min<base::Duration>(2 * weights.retry, kLastRetry);
    weights.retry_at = now + weights.retry;
    due_.emplace(weights.retry_at, evicted.source);
  }
  forget_if_unused(entry, out);
  enforce(now, out);
}

// --- decisions

void HostCache::look(Entries::iterator entry, CacheActions& out) {
  out.emplace_back(wire::LookAtWeights{entry->first});
}

void HostCache::enforce(base::TimePoint now, CacheActions& out) {
  const std::uint64_t excess_bytes = minus(minus(cached_bytes_, evicting_bytes_), budget_bytes());
  if (excess_bytes == 0) return;
  std::vector<CachedWeights> candidates;
  for (const auto& [source, weights] : entries_)
    candidates.push_back({source, weights.resident_bytes, weights.uses.per_second(now), weights.read_bytes_per_s,
                          weights.last_used, evictable(weights, now)});
  for (const CacheEviction& eviction : choose_evictions(std::move(candidates), excess_bytes)) {
    Weights& weights = entries_.at(eviction.source);
    update(weights, [&] { weights.evicting_bytes = eviction.bytes; });
    out.emplace_back(wire::EvictWeights{eviction.source, weights.resident_bytes - eviction.bytes});
  }
}

void HostCache::tick(base::TimePoint now, CacheActions& out) {
  while (!due_.empty() && due_.begin()->first <= now) {
    const auto entry = entries_.find(due_.begin()->second);
    due_.erase(due_.begin());
    if (entry == entries_.end() || !entry->second.look_again) continue;
    entry->second.look_again = false;
    if (entry->second.replicas > 0) look(entry, out);
  }
  enforce(now, out);
}

// --- views

HostCacheView HostCache::view() const {
  return {budget_bytes(), cached_bytes_, evictions_, evicted_bytes_, failed_evictions_};
}

std::optional<CacheEntryView> HostCache::entry(const std::string& source, base::TimePoint now) const {
  const auto found = entries_.find(source);
  if (found == entries_.end()) return std::nullopt;
  const Weights& weights = found->second;
  const auto resident_bytes = weights.known ? std::optional(weights.resident_bytes) : std::nullopt;
  return CacheEntryView{source,
                        weights.weights_bytes,
                        resident_bytes,
                        !weights.pinned_by.empty(),
                        weights.replicas,
                        weights.on_cpu > 0,
                        weights.uses.per_second(now),
                        weights.why_left};
}

std::vector<std::string> HostCache::sources() const {
  std::vector<std::string> sources;
  for (const auto& [source, weights] : entries_) sources.push_back(source);
  return sources;
}

}  // namespace thaw::control
