#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <set>
#include <utility>
#include <vector>

#include "control/gang_index.h"
#include "spec/model_spec.h"

/// Where to look for room without looking everywhere. An exact answer needs every device; in a fleet of thousands a few dozen that were chosen well
/// are as good ("power of d choices": Mitzenmacher 2001), and cost the same however many there are.
namespace thaw::control {

struct Device;
struct Instance;
struct Model;

/// A device's place in the Shortlist, kept by it.
struct ShortlistEntry {
  std::uint64_t number = 0;   ///< devices in the order in which they came; 0: it never was added
  std::size_t slot = 0;       ///< in its kind's row
  bool listed = false;
  bool stale = false;         ///< something on it changed since it was sorted in
  bool chosen = false;        ///< in the answer that is being made
  std::uint32_t level = 0;    ///< replicas at work there, up to a bound
  std::uint64_t free = 0;     ///< bytes that are nobody's
  std::uint64_t coming = 0;   ///< and those that come back anyway
  std::uint64_t room = 0;     ///< and those of who serves nobody at present
};

/// An instance's place in an order by value, kept by ByValue.
struct ValueEntry {
  bool listed = false;
  double value = 0;
};

/// Instances in the order of what they are worth. That changes all the time without anybody saying so: whoever walks looks again and moves what is in
/// a wrong place (put() does), so that places are right where it matters, at the front.
class ByValue {
 public:
  explicit ByValue(ValueEntry Instance::*entry) : entry_(entry) {}
  void put(Instance& i, double value);
  void drop(Instance& i);
  [[nodiscard]] std::size_t size() const { return order_.size(); }
  void front(std::size_t most, std::vector<Instance*>& into) const;  ///< the first `most` of them, as they stand

 private:
  struct Less {
    bool operator()(const std::pair<double, Instance*>& a, const std::pair<double, Instance*>& b) const;
  };
  ValueEntry Instance::*entry_;
  std::set<std::pair<double, Instance*>, Less> order_;
};

/// All devices, sorted by what room they have. Owned by the scheduler. A device is added when it comes and removed before it goes; whoever changes
/// anything on it says so.
class Shortlist {
 public:
  /// So many devices of each sort are looked at.
  static constexpr std::size_t kFree = 16, kComing = 8, kIdle = 16, kRoomy = 8, kAround = 8, kHome = 8;
  static constexpr std::size_t kNodes = 8, kNodesAround = 4;  ///< ... and so many nodes, for a gang

  Shortlist();
  void add(Device& d);
  void remove(Device& d);   ///< nothing is on it any more
  void left(Instance& i);   ///< before it is no more

  /// Something on it changed that says what room it has. Cheap: it is looked at when somebody asks, or when many have changed.
  void changed(Device& d);
  /// Devices of the kind with `bytes` free, on different nodes as far as there are any: at most kFree, where the fewest are at work and the tightest
  /// first.
  const std::vector<Device*>& with_free(spec::DeviceKind kind, std::uint64_t bytes);
  /// Where `m` may find `bytes`, in the order in which devices came: those with as much free, or with as much that comes back anyway; those whose
  /// idle replicas are worth least, and those that have the most of them; those where m was or has images; and some others, each time the next ones.
  const std::vector<Device*>& for_model(Model& m, std::uint64_t bytes);
  /// Nodes where `m` may find `bytes` on each of `devices` devices, by a device of each: those that have as much free, the tightest first; those that hold the
  /// idle replicas worth least, those with most room, those where m was or has images, and some others, each time the next ones.
  const std::vector<Device*>& for_gang(Model& m, std::uint64_t bytes, std::uint32_t devices);
  /// What could be had on it at most before a request ends.
  std::uint64_t room(Device& d);

 private:
  static constexpr std::size_t kLevels = 8;
  using Key = std::pair<std::uint64_t, std::uint64_t>;  ///< bytes, the device's number
  using Order = std::set<std::pair<Key, Device*>>;
  struct Row {
    std::vector<Device*> devices;
    std::array<Order, kLevels> by_free;
    Order by_coming, by_room;
    ByValue idle;  ///< replicas that serve nobody
    Row();
  };

  Row& row(spec::DeviceKind kind) { return rows_[static_cast<std::size_t>(kind)]; }
  void refresh();
  void sort_in(Device& d);
  void list(Device& d, std::size_t working);
  void take_out(Device& d);
  void choose(Device& d);
  void choose_free(const Row& row, std::uint64_t bytes);
  void choose_idle(Row& row, std::uint64_t bytes);
  void choose_home(const Model& m);
  const std::vector<Device*>& answer();

  std::array<Row, 2> rows_;
  GangIndex gangs_;
  std::vector<Device*> stale_;
  std::vector<Device*> chosen_;    ///< the last answer
  std::vector<Instance*> front_;   ///< reused
  std::uint64_t next_number_ = 1;
};

/// What the loss of one idle replica costs, in an order that time does not change: log2 of how often its model is asked for (all rates fade alike),
/// times what its start takes, shared by its replicas.
double lasting_worth(const Model& m);

}  // namespace thaw::control
