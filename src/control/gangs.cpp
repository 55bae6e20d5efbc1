// Replicas that take several devices of one node, all or none. A gang's offer is made of its devices' offers; its claim stands on all of them from the
// same moment on, so that claims have the same order everywhere: the oldest one never waits for a younger, and no two gangs wait for each other's halves.
// Its bytes begin to be held on all devices at once (fund), and are given back on all at once (gone).
#include <algorithm>

#include "control/state.h"

namespace thaw::control {

/// Whether the bytes of a claim are there on its other devices, too, beside those of the claims before it.
bool Scheduler::State::funded_elsewhere(const Device& d, const Device::Claim& claim) {
  return std::all_of(claim.gang.begin(), claim.gang.end(), [&](const Device* other) {
    if (other == &d) return true;
    std::uint64_t promised = other->reserved;
    for (const Device::Claim& c : other->claims) {
      if (c.number <= claim.number) promised += c.bytes;
    }
    return promised <= other->info.budget_bytes;
  });
}

/// The best devices `among` those of one node (of one that is woken: those that it has), chosen one by one. Who leaves for one of them leaves for all that it
/// is on, so later choices count on that.
Offer Scheduler::State::gang_offer(const std::vector<Device*>& among, const Model& m, Instance* to_wake, base::TimePoint now) const {
  Offer gang;
  gang.wake = to_wake;
  gang.rank = Offer::Rank::free;
  std::vector<Offer> single;
  std::vector<base::TimePoint> chances;
  for (Device* d : among) {
    if (d->info.kind == m.spec.resources.device) single.push_back(offer(*d, m, to_wake, now));
  }
  for (const Offer& o : single) chances.push_back(o.rank != Offer::Rank::none ? now : o.chance_at);
  while (gang.gang.size() < m.devices()) {
    Offer best;
    for (Offer& o : single) {
      if (o.rank == Offer::Rank::none) continue;
      judge(o, m, now);
      if (better(o, best, m)) best = o;
    }
    if (best.rank == Offer::Rank::none) break;
    gang.gang.push_back(best.device);
    gang.rank = std::max(gang.rank, best.rank);
    gang.cost += best.cost;
    gang.need = gang.gang.size() == 1 ? best.need : std::min(gang.need, best.need);  // where loading finds less room, it takes less on all
    std::erase_if(single, [&](const Offer& o) { return o.device == best.device; });
    if (best.victims.empty()) continue;
    gang.victims.insert(gang.victims.end(), best.victims.begin(), best.victims.end());
    for (Offer& o : single) o = offer(*o.device, m, to_wake, now, gang.victims);
  }
  const bool whole = gang.gang.size() == m.devices();
  if (!whole) {
    // When time alone makes room on as many devices. Where it seemed to be there already, the same replicas were counted on twice.
    Offer none;
    std::sort(chances.begin(), chances.end());
    if (chances.size() >= m.devices()) none.chance_at = chances[m.devices() - 1];
    if (none.chance_at <= now) none.chance_at = now + policy.look_again_every;
    return none;
  }
  std::sort(gang.gang.begin(), gang.gang.end(), [](const Device* a, const Device* b) { return a->entry.number < b->entry.number; });
  gang.device = gang.gang.front();
  spare_superfluous(gang, m, now);
  return gang;
}

/// Who was to leave one device may stay where a replica on several that was chosen later leaves that one, too. The dearest stays first.
void Scheduler::State::spare_superfluous(Offer& gang, const Model& m, base::TimePoint now) const {
  const bool any_wide = std::any_of(gang.victims.begin(), gang.victims.end(), [](const Instance* i) { return i->devices.size() > 1; });
  if (!any_wide || gang.victims.size() < 2) return;
  const std::vector<Instance*> chosen = gang.victims;
  for (Instance* i : chosen) {
    std::vector<Instance*> without = gang.victims;
    std::erase(without, i);
    const bool needed = std::any_of(i->devices.begin(), i->devices.end(), [&](Device* d) {
      if (std::find(gang.gang.begin(), gang.gang.end(), d) == gang.gang.end()) return false;
      const Offer still = offer(*d, m, gang.wake, now, without);
      return still.rank == Offer::Rank::none || !still.victims.empty();
    });
    if (!needed) gang.victims = std::move(without);
  }
}

/// As pin(): as many devices of one node as it takes, where time alone makes room on all of them first.
void Scheduler::State::pin_gang(Model& m, base::TimePoint now) {
  std::vector<Device*> best;
  base::TimePoint soonest = base::never();
  std::vector<const Node*> seen;
  for (const Device* place : places_for(m)) {
    const Node& node = *place->owner;
    if (std::find(seen.rbegin(), seen.rend(), &node) != seen.rend()) continue;
    seen.push_back(&node);
    std::vector<std::pair<base::TimePoint, Device*>> fitting;
    for (Device* d : node.devices) {
      if (!can_ever_fit(*d, m)) continue;
      const Offer o = offer(*d, m, nullptr, now);
      fitting.emplace_back(o.rank != Offer::Rank::none ? now : o.chance_at, d);
    }
    if (fitting.size() < m.devices()) continue;
    std::stable_sort(fitting.begin(), fitting.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    const base::TimePoint at = fitting[m.devices() - 1].first;
    if (!best.empty() && at >= soonest) continue;
    soonest = at;
    best.clear();
    for (std::size_t n = 0; n < m.devices(); ++n) best.push_back(fitting[n].second);
  }
  if (!best.empty()) pin_to(m, std::move(best));
}

}  // namespace thaw::control
