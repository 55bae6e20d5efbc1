#include "control/gang_index.h"

#include <algorithm>
#include <functional>

#include "control/state.h"

namespace thaw::control {

void GangIndex::changed(Node& node) {
  const auto [at, fresh] = known_.try_emplace(&node, false);
  if (fresh) nodes_.push_back(&node);
  if (at->second || sizes_.empty()) return;
  at->second = true;
  stale_.push_back(&node);
}

void GangIndex::Size::sort_in(Node& node) {
  std::vector<std::uint64_t> free, room;
  for (const Device* d : node.devices) {
    if (d->info.kind != kind || !d->entry.listed) continue;
    free.push_back(d->entry.free);
    room.push_back(d->entry.room);
  }
  Level level;
  if (free.size() >= devices) {
    const auto nth = static_cast<std::ptrdiff_t>(devices - 1);
    std::nth_element(free.begin(), free.begin() + nth, free.end(), std::greater<>());
    std::nth_element(room.begin(), room.begin() + nth, room.end(), std::greater<>());
    level = {free[devices - 1], room[devices - 1]};
  }
  const auto [at, fresh] = of.try_emplace(&node, level);
  if (!fresh) {
    if (at->second.free == level.free && at->second.room == level.room) return;
    by_free.erase({{at->second.free, node.number}, &node});
    by_room.erase({{at->second.room, node.number}, &node});
    at->second = level;
  }
  by_free.insert({{level.free, node.number}, &node});
  by_room.insert({{level.room, node.number}, &node});
}

void GangIndex::refresh() {
  for (Node* node : stale_) {
    known_[node] = false;
    for (Size& size : sizes_) size.sort_in(*node);
  }
  stale_.clear();
}

/// Asked for the first time: all nodes are looked at once.
GangIndex::Size& GangIndex::of(const Query& query) {
  refresh();
  const auto found = std::find_if(sizes_.begin(), sizes_.end(), [&](const Size& s) { return s.devices == query.devices && s.kind == query.kind; });
  if (found != sizes_.end()) return *found;
  Size& size = sizes_.emplace_back();
  size.devices = query.devices;
  size.kind = query.kind;
  for (Node* node : nodes_) size.sort_in(*node);
  return size;
}

void GangIndex::with_free(const Query& query, std::size_t most, std::vector<Node*>& into) {
  const Size& size = of(query);
  for (auto at = size.by_free.lower_bound({{query.bytes, 0}, nullptr}); at != size.by_free.end() && most > 0; ++at, --most) into.push_back(at->second);
}

void GangIndex::with_most_room(const Query& query, std::size_t most, std::vector<Node*>& into) {
  const Size& size = of(query);
  for (auto at = size.by_room.rbegin(); at != size.by_room.rend() && most > 0; ++at, --most) into.push_back(at->second);
}

std::uint64_t GangIndex::room(const Query& query, const Node& node) {
  const Size& size = of(query);
  const auto found = size.of.find(&node);
  return found == size.of.end() ? 0 : found->second.room;
}

void GangIndex::around(std::size_t from, std::size_t count, std::vector<Node*>& into) const {
  for (std::size_t n = 0; n < std::min(count, nodes_.size()); ++n) into.push_back(nodes_[(from + n) % nodes_.size()]);
}

}  // namespace thaw::control
