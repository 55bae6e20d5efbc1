// Devices that people take out of service, and give back.
#include <algorithm>

#include "control/state.h"

namespace thaw::control {

const char* to_string(Duty duty) {
  switch (duty) {
    case Duty::open: return "open";
    case Duty::cordoned: return "cordoned";
    case Duty::drained: return "drained";
  }
  return "unknown";
}

/// Nothing stays: what was about to begin there looks for another place, replicas end their requests first, what serves nobody ends at once. Their
/// models come up elsewhere when somebody asks for them, and at once where minReplicas says so.
std::uint32_t Scheduler::State::evacuate(Device& d, base::TimePoint now, Actions& out) {
  while (!d.claims.empty()) {
    Model& m = *d.claims.back().model;
    cancel_claim(m, d, now, out);
    touch(m);
  }
  const std::vector<Instance*> all = d.instances;
  std::uint32_t leaving = 0;
  for (Instance* i : all) {
    if (i->phase == Phase::stopping || i->drain == Instance::Drain::replaced) continue;
    drain_instance(*i, Instance::Drain::replaced, "its device is drained", now, out);
    ++leaving;
  }
  return leaving;
}

base::Result<std::uint32_t> Scheduler::State::set_duty(const base::NodeName& node, const base::DeviceId& device, Duty duty, base::TimePoint now,
                                                       Actions& out) {
  const auto found = node_by_name.find(node);
  if (found == node_by_name.end()) return base::Error{base::ErrorKind::not_found, "there is no node \"" + node.str() + "\"; `thaw ps` names them"};
  std::uint32_t devices_meant = 0, leaving = 0;
  for (Device* d : found->second->devices) {
    if (!device.empty() && d->info.id != device) continue;
    ++devices_meant;
    d->duty = duty;
    shortlist.changed(*d);
    if (duty == Duty::open) continue;
    while (!d->pinned.empty()) unpin(*d->pinned.back());
    if (duty == Duty::drained) leaving += evacuate(*d, now, out);
  }
  if (devices_meant == 0) {
    std::string known;
    for (const Device* d : found->second->devices) known += (known.empty() ? "" : ", ") + d->info.id.str();
    return base::Error{base::ErrorKind::not_found, "node " + node.str() + " has no device \"" + device.str() + "\"; it has " + known};
  }
  changed_everywhere = room_changed = true;
  for (const auto& [number, m] : waiters) touch(*m);
  work(now, out);
  return leaving;
}

}  // namespace thaw::control
