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
}

void DeviceCompute::advance(base::TimePoint now) {
  assert(now >= at_);
  const double passed_s = base::to_s(now - at_);
  at_ = now;
  if (working_ == 0) return;
  busy_s_ += passed_s;
  const double got_s = passed_s / working_;
  for (Replica& r : replicas_) {
    if (!r.works()) continue;
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
  for (Slot slot = 0; slot < replicas_.size(); ++slot) {
    const Replica& r = replicas_[slot];
    if (!r.works()) continue;
    ++working_;
    const double left = r.left_s();
    if (working_ == 1 || left < soonest) {
      soonest = left;
      due_ = slot;
    }
  }
  if (working_ > 0) next_ = at_ + base::Duration(static_cast<std::int64_t>(std::ceil(soonest * working_ * 1e9)));
}

void DeviceCompute::begin(Slot slot, RequestIndex request, Work work, base::TimePoint now) {
  advance(now);
  replicas_[slot].prompts.push_back({request, work.prompt_s, work.tokens});
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
    if (prompt.tokens > 0) {
      event.kind = Event::Kind::first_token;
      if (r.batch.empty()) r.virtual_tokens = 0;
      r.batch.emplace(r.virtual_tokens + prompt.tokens, prompt.request);
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
