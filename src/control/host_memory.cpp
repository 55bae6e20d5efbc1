// What a replica holds in standby, before and after that is known, and who leaves when host memory for it is short.
#include <algorithm>
#include <cmath>
#include <limits>

#include "control/state.h"

namespace thaw::control {

Node::Node() : resting(&Instance::by_host_value) {}

/// What it will hold of its device in standby: what it held the last time; else nothing on a device of its own, and everything on a CPU, where a
/// frozen process cannot give up what is not a copy of a file.
std::uint64_t Scheduler::State::expected_device_bytes(const Instance& i) {
  const std::uint64_t unknown = i.device->info.kind == spec::DeviceKind::cpu ? i.full_bytes : 0;
  return std::min(i.model->standby_device_bytes.value_or(unknown), i.full_bytes);
}

/// What it holds in standby, for the next time. Of the host's memory it may be the most that one ever held; what stayed on a device of its own may
/// leave for the host the next time.
void Scheduler::State::note_held(const Instance& i) {
  Model& m = *i.model;
  m.standby_device_bytes = i.bytes;
  const std::uint64_t may_follow = i.device->info.kind == spec::DeviceKind::cpu ? 0 : i.bytes * i.devices.size();
  m.standby_host_bytes = std::max(m.standby_host_bytes.value_or(0), i.host_bytes + may_follow);
}

/// What it will hold of the host's memory: the most that one held; else a copy of its device's, where that is not the host's anyway.
std::uint64_t Scheduler::State::expected_host_bytes(const Instance& i) {
  const std::uint64_t unknown = i.device->info.kind == spec::DeviceKind::cpu ? 0 : i.full_bytes * i.devices.size();
  return std::max(i.model->standby_host_bytes.value_or(unknown), i.host_bytes);
}

/// What a byte of its host memory is worth in standby.
double Scheduler::State::host_worth(const Instance& i, base::TimePoint now) const {
  return resting_worth(i, now) / static_cast<double>(std::max<std::uint64_t>(i.host_bytes, 1));
}

/// The same in an order that time does not change.
void Scheduler::State::sort_into_resting(Instance& i) const {
  if (i.host_bytes == 0) return;
  const Model& m = *i.model;
  const double saved_s = base::to_s(m.start_cost() - m.costs.wake.mean() - read_again(i)) / std::max(m.ready() + m.in(Phase::standby), 1U);
  constexpr double kWorthless = -1e18;
  const double worth = saved_s > 0 ? m.rate.level() + std::log2(saved_s / static_cast<double>(i.host_bytes)) : kWorthless;
  i.device->owner->resting.put(i, worth);
}

/// The one in standby on `node` whose host memory is worth least, if that is less than `worth` a byte; null if there is none. Where many are in
/// standby, of those that were worth least when last looked at.
Instance* Scheduler::State::least_worth_resting(Node& node, double worth, base::TimePoint now) const {
  constexpr std::size_t kLookAt = 64;
  Instance* least = nullptr;
  const auto look_at = [&](Instance* i) {
    if (i->phase != Phase::standby || i->wake_claimed || i->host_bytes == 0) return;
    const double of_this = host_worth(*i, now);
    if (of_this >= worth) return;
    worth = of_this;
    least = i;
  };
  if (node.resting.size() <= kLookAt) {
    for (const Device* d : node.devices) {
      for (Instance* i : d->instances) look_at(i);
    }
    return least;
  }
  std::vector<Instance*> front;
  node.resting.front(kLookAt, front);
  for (Instance* i : front) {
    sort_into_resting(*i);
    look_at(i);
  }
  return least;
}

/// Whether `i` may be frozen now. If host memory is short, those in standby that are worth less begin to leave.
bool Scheduler::State::make_host_room(const Instance& i, base::TimePoint now, Actions& out) {
  Node& node = *i.device->owner;
  const std::uint64_t need = expected_host_bytes(i) - i.host_bytes;
  if (need == 0 || node.host_reserved + need <= node.host_budget) return true;
  if (need > node.host_budget) return false;
  const double worth = resting_worth(i, now) / static_cast<double>(need);
  while (node.host_reserved + need > node.host_budget + node.host_leaving) {
    Instance* const victim = least_worth_resting(node, worth, now);
    if (victim == nullptr) break;
    ++victim->model->evictions;
    drain_instance(*victim, Instance::Drain::evicted, "its host memory is for " + i.model->name_for(*victim->model), now, out);
  }
  return false;
}

/// They hold more than was expected: those in standby that are worth least leave until the budget is kept.
void Scheduler::State::relieve_host(Node& node, base::TimePoint now, Actions& out) {
  while (node.host_reserved > node.host_budget + node.host_leaving) {
    Instance* const victim = least_worth_resting(node, std::numeric_limits<double>::infinity(), now);
    if (victim == nullptr) return;
    ++victim->model->evictions;
    drain_instance(*victim, Instance::Drain::evicted, "host memory is short", now, out);
  }
}

}  // namespace thaw::control
