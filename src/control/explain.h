#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/time.h"
#include "spec/model_spec.h"
#include "wire/messages.h"

namespace thaw::control {

/// What would become of a request now.
enum class Prospect : std::uint8_t {
  dispatched,  ///< sent to a replica at once
  slot,        ///< waits for a replica that is up to have a free slot
  rising,      ///< waits for a replica that is on its way up already, or that is being frozen and is woken then
  way_up,      ///< a replica begins to come up for it
  room,        ///< waits until there is room for a replica
  back_off,    ///< its starts fail: waits for the next try
  refused,
};
const char* to_string(Prospect prospect);  ///< "dispatched", "waits_for_slot", ...

/// One part of the time to the first token. Parts count one after the other.
struct EstimatedPart {
  std::string name;          ///< "slot", "room", "back-off", "freeze", "disk", "bus", "start", "restore", "wake", "sharing", "first answer"
  base::Duration takes{};    ///< 0 where it is not known
  bool known = true;         ///< false: nothing was measured yet, and it counts as nothing, as it does when devices are chosen
  std::string source;        ///< for people: where the number comes from
};

/// Who would leave for it.
struct Displaced {
  base::InstanceId instance;
  base::ModelName model;
  bool to_standby = false;   ///< frozen; else stopped
  std::uint32_t in_flight = 0;  ///< requests that it would end first
};

/// An answer to "what would happen on a request now", by the scheduler's own code.
struct Explanation {
  Prospect prospect = Prospect::refused;
  std::string summary;                   ///< one sentence, for people
  base::InstanceId instance;             ///< that would serve it, if it is there already
  base::NodeName node;                   ///< where; empty: nowhere at present
  std::vector<base::DeviceId> devices;
  std::optional<wire::Way> way;          ///< by which a replica comes up for it
  std::string why;                       ///< ... and why so
  std::vector<Displaced> displaced;
  spec::Priority priority = spec::Priority::normal;  ///< that it would have, once what its tenant may ask for was looked at
  std::uint32_t queued_before = 0;       ///< requests of the model that wait already, and that it would not overtake
  std::vector<EstimatedPart> parts;
  base::Duration first_token{};          ///< the sum of the parts
  bool at_least = false;                 ///< something was not known: it will be longer
  base::Duration refused_after{};        ///< how long it would wait at most
  std::string refusal;                   ///< prospect refused: the error's code; else empty
  base::Duration retry_after{};          ///< ... and when to come again; 0: that does not help
};

}  // namespace thaw::control
