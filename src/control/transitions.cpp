#include "control/transitions.h"

#include <array>

namespace thaw::control {

namespace {

// Order: as an instance lives. docs/tiers.md shows these rows.
constexpr std::array kTransitions{
    Transition{Phase::starting, Trigger::up, Phase::ready, "takes what waits"},
    Transition{Phase::starting, Trigger::down, Phase::stopping, "tried again after a back-off, on another device if there is one"},
    Transition{Phase::starting, Trigger::overdue, Phase::stopping, "like a failed start"},
    Transition{Phase::starting, Trigger::stop, Phase::stopping, "stopped, replaced or removed by hand"},
    Transition{Phase::starting, Trigger::vanished, Phase::gone, "what waits is started again"},
    Transition{Phase::ready, Trigger::freeze, Phase::freezing, "only when idle: no request in flight"},
    Transition{Phase::ready, Trigger::down, Phase::stopping, "requests are tried on another replica"},
    Transition{Phase::ready, Trigger::stop, Phase::stopping, "when its requests have ended"},
    Transition{Phase::ready, Trigger::vanished, Phase::gone, "requests are tried on another replica"},
    Transition{Phase::freezing, Trigger::frozen, Phase::standby, "bytes given up are free; what waits wakes it at once"},
    Transition{Phase::freezing, Trigger::still_ready, Phase::ready, "serves what waits, else is stopped instead"},
    Transition{Phase::freezing, Trigger::down, Phase::stopping, "what waits starts anew"},
    Transition{Phase::freezing, Trigger::overdue, Phase::stopping, "what waits starts anew"},
    Transition{Phase::freezing, Trigger::stop, Phase::stopping, "stopped, replaced, removed, or its room is needed"},
    Transition{Phase::freezing, Trigger::vanished, Phase::gone, "what waits starts anew"},
    Transition{Phase::standby, Trigger::wake, Phase::waking, "all of its bytes are reserved again first"},
    Transition{Phase::standby, Trigger::down, Phase::stopping, "the next request restores or starts"},
    Transition{Phase::standby, Trigger::stop, Phase::stopping, "standby.timeout, or its bytes are worth more elsewhere"},
    Transition{Phase::standby, Trigger::vanished, Phase::gone, "the next request restores or starts"},
    Transition{Phase::waking, Trigger::up, Phase::ready, "takes what waits"},
    Transition{Phase::waking, Trigger::down, Phase::stopping, "what waits restores or starts"},
    Transition{Phase::waking, Trigger::overdue, Phase::stopping, "what waits restores or starts"},
    Transition{Phase::waking, Trigger::stop, Phase::stopping, "stopped, replaced or removed by hand"},
    Transition{Phase::waking, Trigger::vanished, Phase::gone, "what waits restores or starts"},
    Transition{Phase::imaging, Trigger::image_done, Phase::stopping, "the image can be used from now on, or is tried again later"},
    Transition{Phase::imaging, Trigger::down, Phase::stopping, "tried again later"},
    Transition{Phase::imaging, Trigger::overdue, Phase::stopping, "tried again later"},
    Transition{Phase::imaging, Trigger::stop, Phase::stopping, "a request needs its room; tried again later"},
    Transition{Phase::imaging, Trigger::vanished, Phase::gone, "tried again later"},
    Transition{Phase::stopping, Trigger::vanished, Phase::gone, "its bytes are free"},
};

constexpr std::array kRules{
    PhaseRule{Phase::starting, "all device bytes of a replica", "startDeadline"},
    PhaseRule{Phase::ready, "all device bytes; host bytes as reported", ""},
    PhaseRule{Phase::freezing, "all device bytes, and the host bytes that standby is expected to take", "30 s"},
    PhaseRule{Phase::standby, "what the node reports: host bytes, and device bytes that could not be given up", "standby.timeout"},
    PhaseRule{Phase::waking, "all device bytes, and the host bytes of standby", "30 s, at most startDeadline"},
    PhaseRule{Phase::imaging, "all device bytes of a replica, and disk for the image", "startDeadline + 5 min"},
    PhaseRule{Phase::stopping, "what it held; after 10 s beyond the grace nobody counts on getting it back", "stopGrace, then SIGKILL"},
    PhaseRule{Phase::gone, "nothing", ""},
};

}  // namespace

const char* to_string(Phase phase) {
  switch (phase) {
    case Phase::starting: return "starting";
    case Phase::ready: return "ready";
    case Phase::freezing: return "freezing";
    case Phase::standby: return "standby";
    case Phase::waking: return "waking";
    case Phase::imaging: return "imaging";
    case Phase::stopping: return "stopping";
    case Phase::gone: return "gone";
  }
  return "unknown";
}

const char* to_string(Trigger trigger) {
  switch (trigger) {
    case Trigger::up: return "InstanceReady";
    case Trigger::freeze: return "freeze";
    case Trigger::frozen: return "InstanceStandby";
    case Trigger::still_ready: return "FreezeFailed";
    case Trigger::wake: return "wake";
    case Trigger::image_done: return "SnapshotTaken/Failed";
    case Trigger::down: return "InstanceDown";
    case Trigger::overdue: return "overdue";
    case Trigger::stop: return "stop";
    case Trigger::vanished: return "InstanceGone";
  }
  return "unknown";
}

Rows<Transition> transitions() { return {kTransitions.data(), kTransitions.size()}; }
Rows<PhaseRule> phase_rules() { return {kRules.data(), kRules.size()}; }

const Transition* find_transition(Phase from, Trigger by) {
  for (const Transition& t : kTransitions) {
    if (t.from == from && t.by == by) return &t;
  }
  return nullptr;
}

}  // namespace thaw::control
