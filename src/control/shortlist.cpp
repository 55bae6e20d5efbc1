#include "control/shortlist.h"

#include <algorithm>
#include <cmath>

#include "control/state.h"

namespace thaw::control {

namespace {

constexpr double kWorthless = -1e18;
constexpr std::size_t kMostStale = 256;  ///< then they are looked at, so that nobody has to look at very many at once

double log2_of(double x) { return x > 0 ? std::log2(x) : kWorthless; }

/// Bytes of who serves nobody, on a device; such replicas are those that can be made to leave at once.
bool gives_way(const Instance& i) {
  return (i.usable() && i.in_flight == 0) || (i.phase == Phase::standby && i.bytes > 0 && !i.wake_claimed) || i.phase == Phase::imaging;
}

}  // namespace

double lasting_worth(const Model& m) {
  return m.rate.level() + log2_of(base::to_s(m.start_cost())) + level_of(m.spec.priority) * std::log2(kLevelWorth) - std::log2(static_cast<double>(std::max(m.ready(), 1U)));
}

// --- by value

bool ByValue::Less::operator()(const std::pair<double, Instance*>& a, const std::pair<double, Instance*>& b) const {
  return a.first != b.first ? a.first < b.first : a.second->id < b.second->id;
}

void ByValue::put(Instance& i, double value) {
  ValueEntry& entry = i.*entry_;
  if (entry.listed && entry.value == value) return;
  drop(i);
  entry = {true, value};
  order_.emplace(value, &i);
}

void ByValue::drop(Instance& i) {
  ValueEntry& entry = i.*entry_;
  if (!entry.listed) return;
  order_.erase({entry.value, &i});
  entry.listed = false;
}

void ByValue::front(std::size_t most, std::vector<Instance*>& into) const {
  into.clear();
  for (auto at = order_.begin(); at != order_.end() && into.size() < most; ++at) into.push_back(at->second);
}

// --- keeping it

Shortlist::Row::Row() : idle(&Instance::by_value) {}

Shortlist::Shortlist() = default;

void Shortlist::add(Device& d) {
  Row& r = row(d.info.kind);
  if (d.entry.number == 0) d.entry.number = next_number_++;
  d.entry.slot = r.devices.size();
  d.entry.stale = true;
  r.devices.push_back(&d);
  stale_.push_back(&d);
}

void Shortlist::remove(Device& d) {
  take_out(d);
  gangs_.changed(*d.owner);
  if (d.entry.stale) std::erase(stale_, &d);
  Row& r = row(d.info.kind);
  r.devices[d.entry.slot] = r.devices.back();
  r.devices[d.entry.slot]->entry.slot = d.entry.slot;
  r.devices.pop_back();
  chosen_.clear();
}

void Shortlist::left(Instance& i) { row(i.device->info.kind).idle.drop(i); }

void Shortlist::changed(Device& d) {
  if (d.entry.stale) return;
  d.entry.stale = true;
  stale_.push_back(&d);
  if (stale_.size() >= kMostStale) refresh();
}

void Shortlist::refresh() {
  for (Device* d : stale_) {
    d->entry.stale = false;
    take_out(*d);
    sort_in(*d);
  }
  stale_.clear();
}

void Shortlist::take_out(Device& d) {
  if (!d.entry.listed) return;
  d.entry.listed = false;
  Row& r = row(d.info.kind);
  const std::uint64_t number = d.entry.number;
  r.by_free[d.entry.level].erase({{d.entry.free, number}, &d});
  r.by_coming.erase({{d.entry.coming, number}, &d});
  r.by_room.erase({{d.entry.room, number}, &d});
}

void Shortlist::sort_in(Device& d) {
  Row& r = row(d.info.kind);
  std::uint64_t coming = 0, idle = 0;
  std::size_t working = 0;
  for (Instance* i : d.instances) {
    if (gives_way(*i)) {
      idle += i->bytes;
      r.idle.put(*i, i->usable() ? lasting_worth(*i->model) : kWorthless);
    } else {
      r.idle.drop(*i);
    }
    if (i->phase == Phase::stopping || i->phase == Phase::freezing || (i->phase == Phase::ready && !i->usable())) coming += i->bytes;
    if (i->in_flight > 0 || i->rising() || i->phase == Phase::freezing) ++working;
  }
  const std::uint64_t promised = d.reserved + d.claimed(), pinned = d.pinned_bytes();
  ShortlistEntry& e = d.entry;
  const auto without = [&](std::uint64_t taken, std::uint64_t given) {
    return d.info.budget_bytes - std::min(d.info.budget_bytes, taken - std::min(taken, given));
  };
  if (d.duty != Duty::open) {
    e.free = e.coming = e.room = 0;
    return list(d, working);
  }
  e.free = without(promised + pinned, 0);
  e.coming = without(promised + pinned, coming);
  e.room = without(promised, coming + idle);  // whoever it is kept for has it
  list(d, working);
}

void Shortlist::list(Device& d, std::size_t working) {
  Row& r = row(d.info.kind);
  ShortlistEntry& e = d.entry;
  e.level = static_cast<std::uint32_t>(std::min(working + d.claims.size(), kLevels - 1));
  e.listed = true;
  gangs_.changed(*d.owner);
  r.by_free[e.level].insert({{e.free, e.number}, &d});
  r.by_coming.insert({{e.coming, e.number}, &d});
  r.by_room.insert({{e.room, e.number}, &d});
}

// --- asking it

void Shortlist::choose(Device& d) {
  if (d.entry.chosen) return;
  d.entry.chosen = true;
  chosen_.push_back(&d);
}

const std::vector<Device*>& Shortlist::answer() {
  for (Device* d : chosen_) d->entry.chosen = false;
  return chosen_;
}

void Shortlist::choose_free(const Row& r, std::uint64_t bytes) {
  const std::size_t from = chosen_.size();
  std::vector<Device*> same_node;
  for (const Order& level : r.by_free) {
    std::size_t looked_at = 0;
    for (auto at = level.lower_bound({{bytes, 0}, nullptr}); at != level.end() && chosen_.size() < from + kFree && looked_at < 4 * kFree; ++at, ++looked_at) {
      Device& d = *at->second;
      const bool seen = std::any_of(chosen_.begin() + static_cast<std::ptrdiff_t>(from), chosen_.end(), [&](const Device* c) { return c->owner == d.owner; });
      if (!seen) choose(d);
      else if (same_node.size() < kFree) same_node.push_back(&d);
    }
    if (chosen_.size() >= from + kFree) return;
  }
  for (Device* d : same_node) {
    if (chosen_.size() >= from + kFree) return;
    choose(*d);
  }
}

/// Places are made right on the way: what is worth more by now goes to where it belongs, and the next one is looked at.
void Shortlist::choose_idle(Row& r, std::uint64_t bytes) {
  const std::size_t from = chosen_.size();
  r.idle.front(4 * kIdle, front_);
  for (Instance* i : front_) {
    if (chosen_.size() >= from + kIdle) return;
    const double worth = i->usable() ? lasting_worth(*i->model) : kWorthless;
    constexpr double kSame = 0.01;  // of an octave
    if (worth > i->by_value.value + kSame) {
      r.idle.put(*i, worth);
      continue;
    }
    for (Device* d : i->devices) {
      if (d->entry.room >= bytes) choose(*d);
    }
  }
}

void Shortlist::choose_home(const Model& m) {
  const auto look_at = [&](const Node& node) {
    Device* best = nullptr;
    for (Device* d : node.devices) {
      if (d->info.kind != m.spec.resources.device) continue;
      if (best == nullptr || std::pair(d->entry.free, d->entry.room) > std::pair(best->entry.free, best->entry.room)) best = d;
    }
    if (best != nullptr) choose(*best);
  };
  for (const Node* node : m.homes) {
    if (node != nullptr) look_at(*node);
  }
  const std::size_t images = m.images.size();
  for (std::size_t n = 0; n < std::min(images, kHome); ++n) look_at(*m.images[(m.looked_from + n) % images]->node);
}

const std::vector<Device*>& Shortlist::with_free(spec::DeviceKind kind, std::uint64_t bytes) {
  refresh();
  chosen_.clear();
  choose_free(row(kind), bytes);
  return answer();
}

const std::vector<Device*>& Shortlist::for_model(Model& m, std::uint64_t bytes) {
  refresh();
  chosen_.clear();
  Row& r = row(m.spec.resources.device);
  choose_free(r, bytes);
  std::size_t left = kComing;
  for (auto at = r.by_coming.lower_bound({{bytes, 0}, nullptr}); at != r.by_coming.end() && left > 0; ++at, --left) choose(*at->second);
  choose_idle(r, bytes);
  left = kRoomy;
  for (auto at = r.by_room.rbegin(); at != r.by_room.rend() && left > 0; ++at, --left) choose(*at->second);
  choose_home(m);
  for (Device* d : m.pinned) choose(*d);
  const std::size_t count = r.devices.size();
  for (std::size_t n = 0; n < std::min(kAround, count); ++n) choose(*r.devices[(m.looked_from + n) % count]);
  if (count > 0) m.looked_from = (m.looked_from + kAround) % count;
  std::sort(chosen_.begin(), chosen_.end(), [](const Device* a, const Device* b) { return a->entry.number < b->entry.number; });
  return answer();
}

const std::vector<Device*>& Shortlist::for_gang(Model& m, std::uint64_t bytes, std::uint32_t devices) {
  refresh();
  chosen_.clear();
  Row& r = row(m.spec.resources.device);
  const GangIndex::Query query{m.spec.resources.device, devices, bytes};
  std::vector<Node*> nodes;
  gangs_.with_free(query, kNodes, nodes);
  r.idle.front(4 * kIdle, front_);
  const std::size_t before = nodes.size();
  for (Instance* i : front_) {
    if (nodes.size() >= before + kNodes) break;
    Node* const node = i->device->owner;
    const double worth = i->usable() ? lasting_worth(*i->model) : kWorthless;
    constexpr double kSame = 0.01;  // of an octave
    if (worth > i->by_value.value + kSame) r.idle.put(*i, worth);
    else if (gangs_.room(query, *node) >= bytes && std::find(nodes.begin(), nodes.end(), node) == nodes.end()) nodes.push_back(node);
  }
  gangs_.with_most_room(query, kNodes, nodes);
  for (Node* home : m.homes) {
    if (home != nullptr) nodes.push_back(home);
  }
  for (std::size_t n = 0; n < std::min(m.images.size(), kHome); ++n) nodes.push_back(m.images[(m.looked_from + n) % m.images.size()]->node);
  if (!m.pinned.empty()) nodes.push_back(m.pinned.front()->owner);
  gangs_.around(m.looked_from, kNodesAround, nodes);
  m.looked_from += kNodesAround;
  for (const Node* node : nodes) {
    const auto first = std::find_if(node->devices.begin(), node->devices.end(), [&](const Device* d) { return d->info.kind == m.spec.resources.device; });
    if (first != node->devices.end()) choose(**first);
  }
  std::sort(chosen_.begin(), chosen_.end(), [](const Device* a, const Device* b) { return a->entry.number < b->entry.number; });
  return answer();
}

std::uint64_t Shortlist::room(Device& d) {
  if (d.entry.stale) refresh();
  return d.entry.room;
}

}  // namespace thaw::control
