#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/time.h"
#include "control/cause.h"
#include "control/routing.h"
#include "control/shortlist.h"
#include "control/transitions.h"
#include "wire/messages.h"

/// Books of one replica, from the order to begin it until nothing is left of it.
namespace thaw::control {

struct Device;
struct Model;
struct Tenant;

struct Instance {
  /// Why no more requests are sent to it. Those in flight end first; then it is stopped.
  enum class Drain { none, scaled_down, evicted, replaced, asked, removed, suspect };

  base::InstanceId id;
  Model* model = nullptr;
  Device* device = nullptr;         ///< the first of its devices; null once gone
  std::vector<Device*> devices;     ///< that it takes, all of one node; more than one: a gang. Empty once gone
  std::uint64_t bytes = 0;          ///< reserved on each of its devices now
  std::uint64_t full_bytes = 0;     ///< ... while it is not in standby
  std::uint64_t host_bytes = 0;     ///< reserved of its node's host memory
  std::uint64_t ready_host_bytes = 0;  ///< ... while it is ready
  std::uint64_t disk_bytes = 0;     ///< reserved of its node's image budget (imaging)
  Phase phase = Phase::starting;
  base::TimePoint phase_since{};
  base::Duration phase_deadline{};  ///< what the node was given; 0: none
  Drain drain = Drain::none;
  bool killed = false;              ///< by an operator, with its requests
  bool exclusive = false;           ///< a retried request runs alone on it
  bool was_ready = false;
  bool used = false;                ///< it was ever sent a request
  bool can_freeze = false;          ///< so says its node
  bool wake_claimed = false;        ///< a claim is to wake it: nobody may stop it for its bytes
  wire::Way way = wire::Way::start;
  base::ImageId image;              ///< to be restored from, or to be made
  std::uint32_t in_flight = 0;
  std::uint64_t served = 0;
  base::TimePoint begun_at{}, ready_at{}, idle_since{};
  base::TimePoint turn_from{};      ///< its turn began: it was ready, or was taken back while it was leaving
  base::TimePoint rest_at{};        ///< not to be put to rest before
  base::TimePoint expects_until{};  ///< woken ahead of a request that is expected until then; epoch: it was not
  base::TimePoint rest_waits_since{};  ///< waiting for host memory to rest in; epoch: it does not
  std::string reason;
  Cause cause;                      ///< of what is done to it, or was last
  Health health;
  std::vector<base::ModelName> adapters;  ///< loaded since it last came up
  Tenant* tenant = nullptr;         ///< whose it counts as: who last sent it a request, or for whom it was begun; null once gone
  base::TimePoint billed_at{};      ///< its time up to then is on somebody's account
  double given = 0;                 ///< device-seconds that each request that is under way from its ready on would have had
  ValueEntry by_value;              ///< in Shortlist
  ValueEntry by_host_value;         ///< in Node::resting

  [[nodiscard]] bool usable() const { return phase == Phase::ready && drain == Drain::none; }
  [[nodiscard]] bool has(const base::ModelName& adapter) const { return std::find(adapters.begin(), adapters.end(), adapter) != adapters.end(); }
  [[nodiscard]] bool rising() const { return phase == Phase::starting || phase == Phase::waking; }
  [[nodiscard]] bool leads(const Device& d) const { return device == &d; }  ///< for walks over devices that count it once
};

}  // namespace thaw::control
