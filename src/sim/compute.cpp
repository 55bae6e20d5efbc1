#include "sim/compute.h"

#include <algorithm>
#include <cassert>
#include <cmath>

namespace thaw::sim {

double DeviceCompute::Replica::left_s() const {
  if (!prompts.empty()) return std::max(prompts.front().left_s, 0.0);
  return std::max(batch.begin()->first - virtual_tokens, 0.0) * step_s();
}

DeviceCompute::Slot DeviceCompute::add_replica(double iteration_s, double per_sequence_s) {
  Slot slot = static_cast<Slot>(replicas_.size());
  if (free_.empty()) {
    replicas_.emplace_back();
  } else {
    slot = free_.back();
    free_.pop_back();
  }
  replicas_[slot] = {};
  replicas_[slot].used = true;
  replicas_[slot].iteration_s = iteration_s;
  replicas_[slot].per_sequence_s = per_sequence_s;
  return slot;
}

void DeviceCompute::remove_replica(Slot slot) {
  assert(replicas_[slot].used && !replicas_[slot].works());
  replicas_[slot].used = false;
  free_.push_back(slot);
  std::erase_if(fresh_, [&](const auto& one) { return one.second == slot; });
}

void DeviceCompute::advance(base::TimePoint now) {
  assert(now >= at_);
  const double passed_s = base::to_s(now - at_);
  at_ = now;
  if (working_ == 0) return;
  busy_s_ += passed_s;
  for (Slot slot = 0; slot < replicas_.size(); ++slot) {
    Replica& r = replicas_[slot];
    if (!r.works()) continue;
    const double got_s = passed_s * rate() * weight(slot) / working_weight_;
    if (!r.prompts.empty())
      r.prompts.front().left_s -= got_s;
    else
      r.virtual_tokens += got_s / r.step_s();
  }
}

void DeviceCompute::plan() {
  ++generation_;
  next_ = base::never();
  double soonest = 0;
  working_ = 0;
  working_weight_ = 0;
  first_ = kNone;
  for (const auto& [rank, slot] : fresh_) {
    if (first_ == kNone && replicas_[slot].works()) first_ = slot;
  }
  for (Slot slot = 0; slot < replicas_.size(); ++slot) {
    const Replica& r = replicas_[slot];
    if (!r.works()) continue;
    ++working_;
    working_weight_ += weight(slot);
    const double left = r.left_s() / weight(slot);
    if (working_ == 1 || left < soonest) {
      soonest = left;
      due_ = slot;
    }
  }
  if (working_ > 0)
    next_ = at_ + base::Duration(static_cast<std::int64_t>(std::ceil(soonest * working_weight_ / rate() * 1e9)));
}

void DeviceCompute::begin(Slot slot, RequestIndex request, Work work, base::TimePoint now) {
  advance(now);
  replicas_[slot].prompts.push_back({request, work.prompt_s, work.tokens});
  plan();
}

void DeviceCompute::join_batch(Replica& r, RequestIndex request, std::uint32_t tokens) {
  if (r.batch.empty()) r.virtual_tokens = 0;
  r.batch.emplace(r.virtual_tokens + tokens, request);
}

void DeviceCompute::decode(Slot slot, RequestIndex request, std::uint32_t tokens, base::TimePoint now) {
  advance(now);
  join_batch(replicas_[slot], request, tokens);
  plan();
}

void DeviceCompute::begin_way(Slot slot, double seconds, base::TimePoint now) {
  advance(now);
  replicas_[slot].prompts.push_front({0, seconds, 0, true});
  plan();
}

void DeviceCompute::fresh(Slot slot, std::uint64_t rank, base::TimePoint now) {
  advance(now);
  fresh_.emplace(std::pair(rank, fresh_order_++), slot);
  plan();
}

void DeviceCompute::mature(Slot slot, base::TimePoint now) {
  const auto found = std::find_if(fresh_.begin(), fresh_.end(), [&](const auto& one) { return one.second == slot; });
  if (found == fresh_.end()) return;
  advance(now);
  fresh_.erase(found);
  plan();
}

void DeviceCompute::drop_work(Slot slot, base::TimePoint now) {
  advance(now);
  replicas_[slot].prompts.clear();
  replicas_[slot].batch.clear();
  plan();
}

DeviceCompute::Event DeviceCompute::pop(base::TimePoint now) {
  assert(now == next_);
  advance(now);
  Replica& r = replicas_[due_];
  Event event{Event::Kind::ended, due_, 0};
  if (!r.prompts.empty()) {
    const Prompt prompt = r.prompts.front();
    r.prompts.pop_front();
    event.request = prompt.request;
    if (prompt.way) {
      event.kind = Event::Kind::way_ended;
    } else if (prompt.tokens > 0) {
      event.kind = Event::Kind::first_token;
      join_batch(r, prompt.request, prompt.tokens);
    }
  } else {
    event.request = r.batch.begin()->second;
    r.virtual_tokens = std::max(r.virtual_tokens, r.batch.begin()->first);
    r.batch.erase(r.batch.begin());
  }
  plan();
  return event;
}

}  // namespace thaw::sim
