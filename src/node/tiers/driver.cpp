#include "node/tiers/driver.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "node/sandbox/clock.h"

namespace thaw::node {

base::Duration TierCall::left() const {
  return std::max<base::Duration>(deadline - now(), base::Duration::zero());
}

base::Status TierCall::go_on() const {
  if (stop.stop_requested())
    return base::Error{base::ErrorKind::unavailable, "the transition was cut short: the instance is to end"};
  if (now() >= deadline) return base::Error{base::ErrorKind::timeout, "the transition did not end by its deadline"};
  return {};
}

base::Status TierCall::pause(base::Duration duration) const {
  std::mutex mutex;
  std::condition_variable_any changed;
  std::unique_lock lock(mutex);
  changed.wait_for(lock, stop, std::min(duration, left()), [] { return false; });
  return go_on();
}

const char* to_string(Rests rests) {
  switch (rests) {
    case Rests::ready:
      return "ready";
    case Rests::standby:
      return "standby";
    case Rests::lost:
      return "lost";
  }
  return "?";
}

}  // namespace thaw::node
