#pragma once

#include <cstdint>

#include "base/ids.h"

namespace thaw::control {

/// By which of its rules the scheduler did something to a replica: for people and their scripts. The reason beside it says the same in words.
enum class Rule : std::uint8_t {
  none,
  request,       ///< requests wait for it
  min_replicas,  ///< so many are always kept
  expected,      ///< a request is expected soon
  by_hand,       ///< an operator asked for it
  idle,          ///< it served nobody for long enough
  standby_over,  ///< it was in standby for as long as its model may be
  evicted,       ///< another model, or another's weights, need its room; or its tenant has no more
  scaled_down,   ///< the other replicas are enough
  replaced,      ///< its model, its file or its device is another by now
  removed,       ///< its model was removed
  suspect,       ///< it failed requests or answers worse than the others
  overdue,       ///< its node said nothing in time
  image,         ///< an image is made, or was
  failure,       ///< it failed on its way
};
const char* to_string(Rule rule);  ///< "request", "min_replicas", ...

/// Why an action was taken.
struct Cause {
  Rule rule = Rule::none;
  base::RequestId request{};  ///< whose wait brought it about; none where it was no request, or one of another tenant than the replica's model
};

}  // namespace thaw::control
