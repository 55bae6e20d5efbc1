#include "control/timers.h"

#include <algorithm>

namespace thaw::control {

void Timers::put(std::size_t slot, Timer* timer) {
  heap_[slot] = timer;
  timer->slot = slot;
}

void Timers::sift(std::size_t slot) {
  Timer* const timer = heap_[slot];
  while (slot > 0 && before(*timer, *heap_[(slot - 1) / 2])) {
    put(slot, heap_[(slot - 1) / 2]);
    slot = (slot - 1) / 2;
  }
  for (;;) {
    std::size_t child = 2 * slot + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && before(*heap_[child + 1], *heap_[child])) ++child;
    if (!before(*heap_[child], *timer)) break;
    put(slot, heap_[child]);
    slot = child;
  }
  put(slot, timer);
}

void Timers::arm(Timer& timer, base::TimePoint at) {
  if (at == timer.at) return;
  const bool was_armed = timer.at != base::never();
  timer.at = at;
  if (at == base::never()) {
    const std::size_t slot = timer.slot;
    Timer* const last = heap_.back();
    heap_.pop_back();
    if (last == &timer) return;
    put(slot, last);
    sift(slot);
    return;
  }
  if (!was_armed) {
    heap_.push_back(&timer);
    timer.slot = heap_.size() - 1;
  }
  sift(timer.slot);
}

Timer* Timers::pop_due(base::TimePoint now) {
  if (heap_.empty() || heap_.front()->at > now) return nullptr;
  Timer* const timer = heap_.front();
  disarm(*timer);
  return timer;
}

}  // namespace thaw::control
