#pragma once

#include <algorithm>
#include <optional>

#include "base/time.h"
#include "spec/model_spec.h"

/// What a level of priority is worth. Priority never means "before all others": a level counts as so much waiting, so whoever waits is overtaken only by those
/// that began to wait at most so much later, and nobody waits for ever.
namespace thaw::control {

constexpr base::Duration kLevelWaits = base::Seconds(10);
/// So many times as much a replica of the next higher level is worth when somebody has to make room.
constexpr double kLevelWorth = 4;

/// -1, 0 or 1.
constexpr int level_of(spec::Priority priority) { return static_cast<int>(priority) - static_cast<int>(spec::Priority::normal); }

/// What a request has that asks for `asked`: no more than its tenant's may (`most`), unless its model has it anyway. Absent: its model's.
constexpr spec::Priority priority_of(std::optional<spec::Priority> asked, spec::Priority most, spec::Priority models) {
  return asked ? std::min(*asked, std::max(most, models)) : models;
}

constexpr double worth_of(spec::Priority priority) {
  return priority == spec::Priority::high ? kLevelWorth : priority == spec::Priority::low ? 1 / kLevelWorth : 1;
}

}  // namespace thaw::control
