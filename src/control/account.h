#pragma once

#include <map>

#include "base/ids.h"
#include "base/time.h"
#include "control/tenants.h"

namespace thaw::control {

struct Instance;

/// An account of what a tenant holds and has had (accounts.cpp).
struct Tenant {
  TenantPolicy policy;
  std::map<base::InstanceId, Instance*> instances;  ///< that count as its
  double devices = 0;                 ///< that those hold, in whole ones, and that are promised to it
  double lately = 0;                  ///< the same on average, older times counting half as much every kLately
  base::TimePoint lately_at{};
  DeviceSeconds used;
  double today = 0;                   ///< device-seconds since its day began
  base::TimePoint day_ends = base::never();
  bool exhausted = false;
  bool active = false;                ///< in State::active
};

}  // namespace thaw::control
