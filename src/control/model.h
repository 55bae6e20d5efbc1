#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/revision.h"
#include "base/tenancy.h"
#include "base/time.h"
#include "control/demand.h"
#include "control/keep_alive.h"
#include "control/queue.h"
#include "control/rest_policy.h"
#include "control/routing.h"
#include "control/tide.h"
#include "control/timers.h"
#include "control/transitions.h"
#include "spec/model_spec.h"

/// Books of one model: its replicas, who waits for them, what was measured of it.
namespace thaw::control {

struct Device;
struct Image;
struct Instance;
struct Node;
struct Tenant;

/// Whose turn it is to find room: who began to wait first, where priority and a small share of the devices count as time (turns.cpp).
struct WaitOrder {
  base::TimePoint since{};
  std::uint64_t number = 0;   ///< among those who wait, in the order in which they began
  friend auto operator<=>(const WaitOrder&, const WaitOrder&) = default;
};

/// Arrivals of the last few seconds say how many more come before another replica is up.
constexpr base::Duration kPanicHalfLife = base::Seconds(2);

/// What came longer ago than this hardly counts for a model's share of all arrivals.
constexpr base::Duration kShareHalfLife = std::chrono::minutes(10);

struct Model {
  spec::ModelSpec spec;
  Tenant* owner = nullptr;            ///< for whom it is kept
  std::uint64_t bytes = 0;            ///< of one replica, on each of its devices
  std::uint64_t weights_bytes = 0;    ///< of its files, as seen by the last start; 0: unknown
  std::vector<Instance*> instances;   ///< not gone
  std::vector<Instance*> usable;      ///< ready and not draining, by id
  std::array<std::uint32_t, kPhases> in_phase{};
  std::vector<Device*> claims;        ///< one entry a claim and device of it
  std::uint32_t in_flight = 0;
  FairQueue queue;
  PeakWindow peak;
  ArrivalRate rate;
  ArrivalRate burst{kPanicHalfLife};  ///< the panic window: what goes on right now
  RunningMean service;       ///< from dispatch to the end of the answer
  RunningMean first_answer;  ///< from dispatch to its first byte
  ArrivalRate steady{kShareHalfLife};  ///< its share of State::all_arrivals
  Preference preference;     ///< by which its pauses are forecast
  Forecaster forecast;       ///< of its pauses: between its requests, as long as nothing was under way
  RetryBudget retries;
  base::TimePoint quiet_since = base::never();  ///< never(): something is under way, or nothing ever was
  PauseCosts pause_costs;                       ///< with which `plan` was made; up 0: without any
  PausePlan plan;                               ///< for the pause that is going on
  PausePlan by_pauses;                          ///< what the past says; `plan` may be another
  bool follows_tide = false;                    ///< `plan` is extended for as long as the tide lasts
  base::TimePoint expected_at = base::never();  ///< when to begin to wake a replica ahead of the next request
  base::Duration keeps{};             ///< how long an idle replica keeps its device
  Costs costs;
  Timer timer;
  bool removed = false;
  bool paused = false;                ///< stopped by hand: minReplicas do not count until the next request or deploy
  bool dirty = false;                 ///< in State::dirty

  // Waiting for room (placement.cpp, turns.cpp).
  bool waiting = false;
  bool waits_entitled = false;
  base::TimePoint waiting_since{};
  base::TimePoint chance_at = base::never();  ///< when time alone may give it room
  std::vector<Device*> pinned;                ///< where nobody younger may take room any more: as many as it takes; empty: nowhere
  WaitOrder waits_as;                         ///< its place among those who wait
  spec::Priority waits_with = spec::Priority::normal;  ///< the priority that this place has
  bool waits_for_quota = false;               ///< all whose requests wait hold as many devices as they may
  bool looks_everywhere = false;              ///< not only at what changed
  base::TimePoint looked_at{};                ///< when it last did
  std::optional<base::TimePoint> evicted_at;

  // Failures (failures.cpp).
  std::uint32_t failures = 0;         ///< consecutive failed starts
  std::uint32_t backoff_step = 0;     ///< doublings so far
  base::TimePoint failed_at{}, backoff_until{};
  Device* failed_on = nullptr;
  std::size_t looked_from = 0;        ///< where its shortlist goes on
  std::array<Node*, 4> homes{};       ///< where its last replicas were, the last one first; null: none
  std::string last_failure;
  std::uint64_t cold_starts = 0, start_failures = 0, evictions = 0, ejections = 0;

  std::uint64_t loading_bytes = 0;  ///< a start holds beside `bytes`; 0 once one has shown that nothing is copied

  // Resting (tiers.cpp).
  std::optional<std::uint64_t> standby_device_bytes, standby_host_bytes;  ///< that it held in standby: the last time, at most
  bool rests_in_standby = false;
  std::uint32_t descents = 0;         ///< decisions where to rest
  std::uint32_t rest_failures = 0;    ///< freezes and wakes that failed since one last worked
  bool summoned = false;              ///< by hand: one replica is wanted until it is up
  std::string rests;
  std::string fell_back;              ///< why the next way up is a slower one; cleared by a replica that is up
  std::uint64_t freezes = 0, wakes = 0, restores = 0, freeze_failures = 0, wake_failures = 0, restore_failures = 0;

  // Images (images.cpp).
  std::vector<Image*> images;
  bool restores_preferred = false;
  std::uint32_t ascents = 0;          ///< starts and restores that were begun
  base::TimePoint snapshot_at = base::never();   ///< when to think of making one
  std::uint32_t snapshot_tries = 0;
  std::uint64_t snapshot_failures = 0;
  std::uint64_t image_bytes = 0;      ///< of the last one; 0: none was made
  std::string last_snapshot_failure;

  [[nodiscard]] std::uint32_t min_replicas() const { return paused || removed ? 0 : spec.scaling.min_replicas; }
  [[nodiscard]] std::uint32_t devices() const { return spec.resources.devices; }  ///< that a replica takes
  [[nodiscard]] bool gang() const { return devices() > 1; }
  [[nodiscard]] std::uint64_t all_bytes() const { return bytes * devices(); }     ///< of one replica, on all its devices
  [[nodiscard]] std::uint32_t claimed() const { return static_cast<std::uint32_t>(claims.size()) / devices(); }
  [[nodiscard]] std::uint32_t ready() const { return static_cast<std::uint32_t>(usable.size()); }
  [[nodiscard]] std::uint32_t in(Phase phase) const { return in_phase[static_cast<std::size_t>(phase)]; }
  [[nodiscard]] std::uint32_t rising() const { return in(Phase::starting) + in(Phase::waking); }
  [[nodiscard]] std::uint32_t coming() const { return rising() + claimed(); }
  /// What a replica costs to have again once it is gone altogether: by the way that would be taken.
  [[nodiscard]] base::Duration start_cost() const {
    const CostEstimate& way = (restores_preferred && !images.empty() && costs.restore.known()) || !costs.start.known() ? costs.restore : costs.start;
    return way.mean();
  }
  [[nodiscard]] std::uint32_t replicas() const { return ready() + coming(); }
  [[nodiscard]] spec::Priority priority() const { return queue.highest(spec.priority); }  ///< of what it wants a replica for
  [[nodiscard]] std::uint32_t waiting_requests() const { return static_cast<std::uint32_t>(queue.size()); }
  /// As its own users call it, for messages to them: without the tenant, and without the revision, which no request names.
  [[nodiscard]] std::string name() const { return base::public_model(spec.name); }
  /// The same for messages that another model's users may read: no tenant learns of another's models.
  [[nodiscard]] std::string name_for(const Model& reader) const {
    return base::tenant_part(spec.name) == base::tenant_part(reader.spec.name) ? name() : "another tenant's model";
  }
};

}  // namespace thaw::control
