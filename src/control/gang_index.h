#pragma once

#include <cstdint>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "spec/model_spec.h"

/// On which nodes N devices have room at the same time, without looking at all nodes: for the shortlist (shortlist.h).
namespace thaw::control {

struct Node;

/// For every N that somebody asked about, nodes in the order of what the N-th best of their devices has: as many devices have at least that.
/// Owned by Shortlist, whose entries it reads. A fleet without gangs costs nothing.
class GangIndex {
 public:
  void changed(Node& node);  ///< a device of it came, went or has other room
  struct Query {
    spec::DeviceKind kind = spec::DeviceKind::cuda;
    std::uint32_t devices = 2;
    std::uint64_t bytes = 0;     ///< on each
  };
  /// At most `most` nodes that have the bytes free on as many devices, the tightest first.
  void with_free(const Query& query, std::size_t most, std::vector<Node*>& into);
  /// At most `most` nodes whose devices have most room, also that of who serves nobody; enough of it or not.
  void with_most_room(const Query& query, std::size_t most, std::vector<Node*>& into);
  /// What so many devices of the node could have at most before a request ends.
  std::uint64_t room(const Query& query, const Node& node);
  /// `count` nodes from the `from`-th on, round and round.
  void around(std::size_t from, std::size_t count, std::vector<Node*>& into) const;

 private:
  struct Level {
    std::uint64_t free = 0, room = 0;
  };
  struct Size {
    std::uint32_t devices = 0;
    spec::DeviceKind kind = spec::DeviceKind::cuda;
    std::set<std::pair<std::pair<std::uint64_t, std::uint64_t>, Node*>> by_free, by_room;  ///< bytes, the node's number
    std::unordered_map<const Node*, Level> of;
    void sort_in(Node& node);
  };
  Size& of(const Query& query);
  void refresh();

  std::vector<Node*> nodes_, stale_;
  std::unordered_map<const Node*, bool> known_;  ///< whether it is stale
  std::vector<Size> sizes_;
};

}  // namespace thaw::control
