#include "control/cause.h"

namespace thaw::control {

const char* to_string(Rule rule) {
  switch (rule) {
    case Rule::none: return "none";
    case Rule::request: return "request";
    case Rule::min_replicas: return "min_replicas";
    case Rule::expected: return "expected";
    case Rule::by_hand: return "by_hand";
    case Rule::idle: return "idle";
    case Rule::standby_over: return "standby_over";
    case Rule::evicted: return "evicted";
    case Rule::scaled_down: return "scaled_down";
    case Rule::replaced: return "replaced";
    case Rule::removed: return "removed";
    case Rule::suspect: return "suspect";
    case Rule::overdue: return "overdue";
    case Rule::image: return "image";
    case Rule::failure: return "failure";
  }
  return "none";
}

}  // namespace thaw::control
