#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "wire/messages.h"

/// The problem: weights in the page cache are the node's memory, and nobody but the kernel knows how much of it. This
/// is the node's half of the host cache: it looks how much of a model is resident, and takes weights out of memory. It
/// decides nothing: what to keep, control/host_cache.h decides.
namespace thaw::node {

/// Carries looks and evictions out in the order in which they come, on a thread of its own that sleeps while there are
/// none; answers each by an event. Never evicts what an instance of this node uses, not even when told so: a start may
/// have crossed the order on its way. One that has copied its weights uses them no more. Lifecycle: one for each node. The destructor drops what was not begun.
/// Thread-safe; the sink is called from its thread.
class HostCache {
 public:
  using Sink = std::function<void(wire::NodeEvent)>;
  /// Orders that may wait; beyond that they are dropped, and the next one about the same weights makes up for it.
  static constexpr std::size_t kMaxWaiting = 100'000;

  HostCache(base::NodeName node, Sink sink);
  ~HostCache();
  HostCache(const HostCache&) = delete;
  HostCache& operator=(const HostCache&) = delete;

  /// In the background; answered by WeightsState or WeightsEvicted.
  void submit(wire::LookAtWeights order);
  void submit(wire::EvictWeights order);

  // --- what starts and fills tell
  /// From now until instance_gone() an instance uses the weights.
  void instance_started(base::InstanceId instance, const std::string& source);
  /// ... and has copied them.
  void instance_copied(base::InstanceId instance);
  void instance_gone(base::InstanceId instance);
  /// A file was read from its disk at this rate, by a read that was long enough to tell.
  void note_read(const std::string& file, double bytes_per_s);

  // --- for people, on the caller's thread
  /// As many as can be looked at within `at_most`, one at least; nothing for the others, whose turn is next time.
  [[nodiscard]] std::vector<std::optional<wire::WeightsState>> look(const std::vector<std::string>& sources,
                                                                    base::Duration at_most);
  /// All of it. conflict while an instance uses it.
  [[nodiscard]] base::Result<wire::WeightsEvicted> evict(const std::string& source);

 private:
  struct User {
    std::string source;
    bool copied = false;
  };
  using Order = std::variant<wire::LookAtWeights, wire::EvictWeights>;

  void push(Order order);
  void work();
  /// How many have copied the weights; nothing when somebody still uses them.
  [[nodiscard]] std::optional<std::size_t> copies(const std::string& source) const;
  [[nodiscard]] wire::WeightsState state_of(const std::string& source) const;
  [[nodiscard]] wire::WeightsEvicted carry_out(const wire::EvictWeights& order) const;

  base::NodeName node_;
  Sink sink_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Order> waiting_;
  bool ending_ = false;
  std::map<base::InstanceId, User> users_;
  std::map<dev_t, double> read_bytes_per_s_;  ///< by disk
  std::size_t next_look_ = 0;                 ///< where look() goes on
  std::thread thread_;
};

}  // namespace thaw::node
