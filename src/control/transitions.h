#pragma once

#include <cstddef>
#include <string>

/// The states of an instance and every way from one to another, once and as data: the scheduler moves instances by this table alone, and a
/// test compares docs/tiers.md with it.
namespace thaw::control {

enum class Phase {
  starting,   ///< on its way up from nothing or from an image
  ready,      ///< serves
  freezing,   ///< on its way to standby; serves nobody
  standby,    ///< frozen: holds what it could not give up
  waking,     ///< on its way up from standby
  imaging,    ///< a replica that was started only to make an image of it; never serves
  stopping,   ///< its end was ordered or reported; bytes are held until it is gone
  gone,
};
constexpr std::size_t kPhases = 8;
const char* to_string(Phase phase);

enum class Trigger {
  up,              ///< the node: InstanceReady
  freeze,          ///< we: FreezeInstance
  frozen,          ///< the node: InstanceStandby
  still_ready,     ///< the node: FreezeFailed, it serves as before
  wake,            ///< we: WakeInstance
  image_done,      ///< the node: SnapshotTaken or SnapshotFailed
  down,            ///< the node: InstanceDown, or FreezeFailed for one that did not survive
  overdue,         ///< nothing was heard by the state's deadline: StopInstance
  stop,            ///< we: StopInstance
  vanished,        ///< the node: InstanceGone, or it said hello again
};
const char* to_string(Trigger trigger);

struct Transition {
  Phase from;
  Trigger by;
  Phase to;
  const char* then;  ///< what happens to whoever relied on it: for the documentation
};

/// What holds in a state; for the documentation.
struct PhaseRule {
  Phase phase;
  const char* holds;      ///< what the books reserve for it
  const char* deadline;   ///< of the state; "": none
};

/// A view on a static table.
template <typename T>
struct Rows {
  const T* first;
  std::size_t count;
  [[nodiscard]] const T* begin() const { return first; }
  [[nodiscard]] const T* end() const { return first + count; }
};

Rows<Transition> transitions();
Rows<PhaseRule> phase_rules();

/// The row for it; null: it means nothing in that state (a message that crossed another one, or a node that lies) and is passed over.
const Transition* find_transition(Phase from, Trigger by);

}  // namespace thaw::control
