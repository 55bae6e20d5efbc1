#pragma once

#include <cstdint>
#include <vector>

#include "base/time.h"
#include "control/transitions.h"

namespace thaw::control {

struct Device;
struct Instance;
struct Tenant;

/// A way to get a model's replica onto a device, best first.
struct Offer {
  enum class Rank { free, returning, evict_idle, draining, evict_busy, none };
  Rank rank = Rank::none;
  Device* device = nullptr;                   ///< the first one, of a gang
  std::vector<Device*> gang;                  ///< all devices of a gang, in their order; empty: `device` alone
  Instance* wake = nullptr;                   ///< to be woken; null: a new instance
  std::uint64_t need = 0;                     ///< bytes beyond what `wake` holds, on each device
  std::vector<Instance*> victims;
  double cost = 0;                            ///< what the victims are worth
  std::int64_t score = 0;                     ///< when it answers, and what its victims are worth; the less the better
  base::TimePoint expects_until{};  ///< for a request that is expected until then; epoch: for those that are there
  Tenant* tenant = nullptr;         ///< for whom
  base::TimePoint chance_at = base::never();  ///< rank none: when time alone makes an offer

  [[nodiscard]] Rows<Device*> devices() const {
    return gang.empty() ? Rows<Device*>{&device, 1} : Rows<Device*>{gang.data(), gang.size()};
  }
};

}  // namespace thaw::control
