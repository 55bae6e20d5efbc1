#include "control/queue.h"

#include <cassert>

namespace thaw::control {

void FairQueue::push(Request& request) {
  assert(!request.retried);
  auto [found, fresh] = lanes_.try_emplace(request.tenant);
  if (fresh) found->second = ring_.insert(ring_.end(), Lane{request.tenant, {}});
  request.lane = found->second;
  request.place = request.lane->waiting.insert(request.lane->waiting.end(), &request);
  deadlines_.emplace(Key{request.deadline, request.id}, &request);
}

void FairQueue::push_retried(Request& request) {
  request.retried = true;
  request.place = retried_.insert(retried_.end(), &request);
  deadlines_.emplace(Key{request.deadline, request.id}, &request);
}

void FairQueue::remove(Request& request) {
  const auto removed = deadlines_.erase(Key{request.deadline, request.id});
  assert(removed == 1);
  static_cast<void>(removed);
  if (request.retried) {
    retried_.erase(request.place);
    return;
  }
  request.lane->waiting.erase(request.place);
  if (!request.lane->waiting.empty()) return;
  lanes_.erase(request.lane->tenant);
  ring_.erase(request.lane);
}

void FairQueue::take(Request& request) {
  if (!request.retried) ring_.splice(ring_.end(), ring_, request.lane);
  remove(request);
}

base::TimePoint FairQueue::earliest_deadline() const {
  return deadlines_.empty() ? base::never() : deadlines_.begin()->first.first;
}

Request* FairQueue::overdue(base::TimePoint now) const {
  return earliest_deadline() <= now && !deadlines_.empty() ? deadlines_.begin()->second : nullptr;
}

}  // namespace thaw::control
