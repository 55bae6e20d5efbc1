#include "unit/control/describe.h"

#include "base/units.h"

namespace thaw::control::test {

namespace {

template <typename Id>
std::string text(Id id) { return std::to_string(id.value()); }

/// "cuda0", or "cuda0+cuda1" of a gang.
template <typename Command>
std::string devices(const Command& command) {
  std::string named = command.device.str();
  for (std::size_t n = 1; n < command.devices.size(); ++n) named += "+" + command.devices[n].str();
  return named;
}

struct Words {
  std::string operator()(const Start& a) const {
    return (a.command.image.empty() ? "start " : "restore ") + text(a.command.instance) + " " + a.command.model.name.str() + " " + a.node.str() + "/" +
           devices(a.command) + (a.command.image.empty() ? "" : " from " + a.command.image.str());
  }
  std::string operator()(const Freeze& a) const { return "freeze " + text(a.command.instance) + " " + a.why; }
  std::string operator()(const Wake& a) const { return "wake " + text(a.command.instance) + " " + a.why; }
  std::string operator()(const Snapshot& a) const {
    return "snapshot " + text(a.command.instance) + " " + a.command.image.str() + " " + a.node.str() + "/" + devices(a.command);
  }
  std::string operator()(const Drop& a) const { return "drop " + a.command.image.str() + " " + a.why; }
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
