#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include "base/ids.h"
#include "base/time.h"
#include "control/cache_evictions.h"
#include "control/demand.h"
#include "spec/model_spec.h"
#include "wire/messages.h"

/// The problem: weights that stay in a node's page cache make the next start fast, but the memory is wanted by others
/// too, and the kernel, left alone, drops what was longest unused and not what is least worth. This keeps the books of
/// one node's page cache over model files and decides what leaves. Pure, like the Scheduler: events and a time in,
/// actions out.
///
/// What counts: the resident bytes of all weights, except those that replicas on the node's CPU device use: there the
/// mapped pages are the device memory that the Scheduler has reserved for them, and nothing is counted twice. An engine that
/// has copied its weights (quantised ones) reserves the copies, and the file counts here as if nobody used it. Weights
/// that are being read for a GPU count in full. Budget: HostCacheInfo::max_bytes, or what instances have left of
/// shared_bytes if that is less.
namespace thaw::control {

/// What to tell the node.
using CacheAction = std::variant<wire::LookAtWeights, wire::EvictWeights>;
using CacheActions = std::vector<CacheAction>;

/// One source as people see it.
struct CacheEntryView {
  std::string source;
  std::uint64_t weights_bytes = 0;  ///< on disk; 0: never looked at
  std::optional<std::uint64_t>
      resident_bytes;  ///< as the kernel counted last; absent: nobody has looked, or it does not say
  bool pinned = false;
  std::uint32_t replicas = 0;  ///< that are not gone
  bool on_cpu = false;  ///< a replica on the CPU device uses them: they are in that device's books, not in cached_bytes
  double uses_per_s = 0;
  std::string why_left;  ///< why the last eviction left something; empty: it did not
};

struct HostCacheView {
  std::uint64_t budget_bytes = 0;  ///< now
  std::uint64_t cached_bytes = 0;  ///< that count against it
  std::uint64_t evictions = 0;     ///< that made bytes leave
  std::uint64_t evicted_bytes = 0;
  std::uint64_t failed_evictions = 0;  ///< that left something of what they should take
};

/// Lifecycle: one for each node, from its hello on. Not thread-safe: one owner calls it, in time order.
/// Cost: an event touches one source; only while more is cached than the budget allows, all of them are looked at.
class HostCache {
 public:
  /// How long ago a use counts half: a warm copy pays off over hours.
  static constexpr base::Duration kHalfLife = std::chrono::hours(1);
  /// After an eviction that left something: doubles up to the maximum. Nothing is retried while the budget is kept.
  static constexpr base::Duration kFirstRetry = base::Seconds(5);
  static constexpr base::Duration kLastRetry = base::Seconds(60);
  /// While weights are read for a replica, how often to look how far they are; until a look finds no change.
  static constexpr base::Duration kLookAgain = base::Seconds(10);

  explicit HostCache(wire::HostCacheInfo info) : info_(info) {}

  // --- models: several may have the same source
  void model_deployed(const spec::ModelSpec& spec, CacheActions& out);
  /// Weights that no model has any more leave, once no replica uses them.
  void model_removed(const base::ModelName& model, base::TimePoint now, CacheActions& out);
  void requested(const base::ModelName& model, base::TimePoint now);

  // --- instances
  void instance_starting(base::InstanceId instance, const spec::ModelSpec& spec, base::TimePoint now,
                         CacheActions& out);
  /// By whichever way up.
  /// `copied`: its engine needs the files no more.
  void instance_ready(base::InstanceId instance, bool copied, base::TimePoint now, CacheActions& out);
  /// It is in standby. On a CPU what stayed of its weights is in the Scheduler's books for it; a GPU's comes up again without its files, so that
  /// they may leave.
  void instance_resting(base::InstanceId instance, base::TimePoint now, CacheActions& out);
  void instance_gone(base::InstanceId instance, base::TimePoint now, CacheActions& out);
  /// Host memory that instances have reserved by now: of the CPU device, and beside GPUs. To be told after a start, and before an end: what moves
  /// between the two books is never in both.
  void reserved(std::uint64_t bytes, base::TimePoint now, CacheActions& out);

  // --- what the node says
  void weights_state(const wire::WeightsState& state, base::TimePoint now, CacheActions& out);
  /// Several at once; those that nobody looked at are left out.
  void weights_states(const std::vector<std::optional<wire::WeightsState>>& states, base::TimePoint now,
                      CacheActions& out);
  void weights_evicted(const wire::WeightsEvicted& evicted, base::TimePoint now, CacheActions& out);

  /// When tick() must be called next; never() when nothing is pending.
  [[nodiscard]] base::TimePoint next_tick() const { return due_.empty() ? base::never() : due_.begin()->first; }
  void tick(base::TimePoint now, CacheActions& out);

  [[nodiscard]] HostCacheView view() const;
  /// Absent when no model has the source.
  [[nodiscard]] std::optional<CacheEntryView> entry(const std::string& source, base::TimePoint now) const;
  [[nodiscard]] std::vector<std::string> sources() const;

 private:
  struct Weights {
    std::set<base::ModelName> models;
    std::set<base::ModelName> pinned_by;
    std::uint64_t weights_bytes = 0, resident_bytes = 0;
    bool known = false;  ///< resident_bytes is what the kernel said
    double read_bytes_per_s = 0;
    ArrivalRate uses{kHalfLife};
    base::TimePoint last_used{};
    std::uint32_t replicas = 0;  ///< not gone
    std::uint32_t on_cpu = 0;    ///< of them on the CPU device
    std::uint32_t starting = 0;  ///< of them not ready yet
    std::uint32_t resting = 0;   ///< of them in standby, with all that they need
    std::uint32_t copied = 0;    ///< of them those that have copies of their own
    std::uint64_t evicting_bytes = 0;
    base::Duration retry{};  ///< 0: the last eviction left nothing
    base::TimePoint retry_at{};
    bool look_again = false;  ///< at a time in due_
    std::string why_left;
  };
  struct Placed {
    std::string source;
    bool on_cpu = false;
    bool starting = true;
    bool resting = false;
    bool copied = false;
  };
  using Entries = std::map<std::string, Weights>;

  static std::uint64_t counted(const Weights& weights);
  [[nodiscard]] std::uint64_t budget_bytes() const;
  [[nodiscard]] bool evictable(const Weights& weights, base::TimePoint now) const;
  /// Runs `change` on the entry and keeps the sums true.
  template <typename Change>
  void update(Weights& weights, const Change& change);
  void take(const wire::WeightsState& state, base::TimePoint now);
  void leave(const base::ModelName& model, CacheActions& out);
  void forget_if_unused(Entries::iterator entry, CacheActions& out);
  void look(Entries::iterator entry, CacheActions& out);
  void enforce(base::TimePoint now, CacheActions& out);

  wire::HostCacheInfo info_;
  Entries entries_;
  std::unordered_map<base::ModelName, Entries::iterator> by_model_;
  std::unordered_map<base::InstanceId, Placed> instances_;
  std::set<std::pair<base::TimePoint, std::string>>
      due_;  ///< looks and retries; one that is pointless by then does no harm
  std::uint64_t reserved_bytes_ = 0;
  std::uint64_t cached_bytes_ = 0;    ///< sum of counted()
  std::uint64_t evicting_bytes_ = 0;  ///< of them on their way out
  std::uint64_t evictions_ = 0, evicted_bytes_ = 0, failed_evictions_ = 0;
};

}  // namespace thaw::control
