#include "control/queue.h"

#include <algorithm>
#include <cassert>
#include <iterator>

#include "control/priority.h"

namespace thaw::control {

Request* Lane::first() const {
  Request* best = nullptr;
  for (std::size_t n = kPriorities; n-- > 0;) {
    if (waiting[n].empty()) continue;
    Request* const r = waiting[n].front();
    const auto since = [](const Request& of) { return of.queued_at - level_of(of.priority) * kLevelWaits; };
    if (best == nullptr || since(*r) < since(*best)) best = r;
  }
  return best;
}

void FairQueue::push(Request& request, double weight) {
  assert(!request.retried && weight > 0);
  auto [found, fresh] = lanes_.try_emplace(request.tenant);
  if (fresh) {
    found->second = ring_.insert(ring_.end(), Lane{request.tenant, weight, virtual_ + 1 / weight});
    sort_in(found->second);
  }
  found->second->weight = weight;
  request.lane = found->second;
  std::list<Request*>& line = request.lane->waiting[static_cast<std::size_t>(request.priority)];
  request.place = line.insert(line.end(), &request);
  ++waiting_of_[static_cast<std::size_t>(request.priority)];
  deadlines_.emplace(Key{request.deadline, request.id}, &request);
}

/// Behind those whose turn comes no later.
void FairQueue::sort_in(std::list<Lane>::iterator lane) {
  auto before = ring_.end();
  while (before != ring_.begin()) {
    const auto previous = std::prev(before);
    if (previous != lane && previous->pass <= lane->pass) break;
    before = previous;
  }
  ring_.splice(before, ring_, lane);
}

spec::Priority FairQueue::highest(spec::Priority otherwise) const {
  for (std::size_t n = kPriorities; n-- > 0;) {
    if (waiting_of_[n] > 0) return static_cast<spec::Priority>(n);
  }
  return otherwise;
}

void FairQueue::push_retried(Request& request) {
  request.retried = true;
  request.place = retried_.insert(retried_.end(), &request);
  ++waiting_of_[static_cast<std::size_t>(request.priority)];
  deadlines_.emplace(Key{request.deadline, request.id}, &request);
}

void FairQueue::remove(Request& request) {
  const auto removed = deadlines_.erase(Key{request.deadline, request.id});
  assert(removed == 1);
  static_cast<void>(removed);
  --waiting_of_[static_cast<std::size_t>(request.priority)];
  if (request.retried) {
    retried_.erase(request.place);
    return;
  }
  request.lane->waiting[static_cast<std::size_t>(request.priority)].erase(request.place);
  if (!request.lane->empty()) return;
  lanes_.erase(request.lane->tenant);
  ring_.erase(request.lane);
  if (ring_.empty()) virtual_ = 0;
}

void FairQueue::take(Request& request) {
  if (!request.retried) {
    Lane& lane = *request.lane;
    virtual_ = std::max(virtual_, lane.pass);
    lane.pass += 1 / lane.weight;
    sort_in(request.lane);
  }
  remove(request);
}

base::TimePoint FairQueue::earliest_deadline() const {
  return deadlines_.empty() ? base::never() : deadlines_.begin()->first.first;
}

Request* FairQueue::overdue(base::TimePoint now) const {
  return earliest_deadline() <= now && !deadlines_.empty() ? deadlines_.begin()->second : nullptr;
}

}  // namespace thaw::control
