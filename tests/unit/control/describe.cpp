#include "unit/control/describe.h"

#include "base/units.h"

namespace thaw::control::test {

namespace {

template <typename Id>
std::string text(Id id) { return std::to_string(id.value()); }

struct Words {
  std::string operator()(const Start& a) const {
    return "start " + text(a.command.instance) + " " + a.command.model.name.str() + " " + a.node.str() + "/" + a.command.device.str();
  }
  std::string operator()(const Stop& a) const { return "stop " + text(a.instance) + " " + a.reason; }
  std::string operator()(const Dispatch& a) const {
    return "dispatch " + text(a.request) + " to " + text(a.instance) + (a.cold ? " cold" : " warm") + " after " + written(a.queued);
  }
  std::string operator()(const Refuse& a) const {
    return "refuse " + text(a.request) + " " + to_string(a.why) + " retry " + written(a.retry_after) + " " + a.message;
  }
};

}  // namespace

std::string written(base::Duration duration) {
  return duration == base::Duration::zero() ? "0s" : base::format_duration(duration);
}

std::string describe(const Action& action) { return std::visit(Words{}, action); }

}  // namespace thaw::control::test
