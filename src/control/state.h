#pragma once

#include <array>
#include <compare>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <set>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/tenancy.h"
#include "control/account.h"
#include "control/demand.h"
#include "control/keep_alive.h"
#include "control/priority.h"
#include "control/queue.h"
#include "control/request.h"
#include "control/routing.h"
#include "control/scheduler.h"
#include "control/shortlist.h"
#include "control/tide.h"
#include "control/timers.h"
#include "control/transitions.h"
#include "control/victims.h"
#include "control/warm_weights.h"

/// The scheduler's books, private to src/control. Every event changes them and marks the models it concerns; work() then
/// brings those models, and whoever waits for room, to rest. Nothing here ever walks over all models on an event.
namespace thaw::control {

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

/// A snapshot on a node's disk. Its bytes are reserved until the node says that it is gone.
struct Image {
  wire::ImageInfo info;
  Node* node = nullptr;
  Model* model = nullptr;          ///< null: not deployed at present
  bool dropping = false;           ///< its end was ordered; nobody is restored from it any more
  std::uint32_t restores = 0;      ///< from it that came up
  std::uint32_t failures = 0;      ///< restores from it that did not, since one last did
};

/// What a machine's instances share: host memory, disk, drivers.
struct Node {
  Node();

  std::uint64_t number = 0;           ///< nodes in the order in which they came
  base::NodeName name;
  std::uint32_t domain = 0;           ///< what it fails together with (State::domain_of)
  std::string domain_name;            ///< as it named it; empty: it did not
  std::vector<Device*> devices;       ///< in their order
  std::vector<wire::DriverInfo> drivers;
  std::uint64_t host_budget = 0;
  std::uint64_t host_reserved = 0;    ///< by its instances; more than the budget if they turn out to hold more
  std::uint64_t host_leaving = 0;     ///< of that, by those whose end was ordered
  ByValue resting;                    ///< its instances in standby, by what a byte of their host memory is worth
  std::uint64_t image_budget = 0;
  std::uint64_t image_leaving = 0;    ///< of what is reserved, by images whose end was ordered
  std::uint64_t image_reserved = 0;   ///< by images and by those that are being made
  std::map<base::ImageId, std::unique_ptr<Image>> images;
  std::uint32_t imaging = 0;          ///< replicas that are being made images of
  base::Duration fastest_restore{};   ///< of anything, ever; 0: none yet
  double read_bytes_per_s = 0;        ///< of weights during starts, learnt; 0: unknown
  std::uint64_t cache_budget = 0;     ///< host memory for weights and instances together
  WarmWeights warm;                   ///< that are in its memory, as far as can be told
  CostEstimate stops;                 ///< from the order to the end of an instance
  double disk_wait_s = 0;             ///< that a way up waited for the disk, on average over the last few
  base::TimePoint disk_busy_until{};  ///< with what was promised to those on their way up

  [[nodiscard]] bool can_freeze(spec::DeviceKind kind) const;
  [[nodiscard]] bool can_snapshot(const spec::ModelSpec& model) const;
};

struct Device {
  Node* owner = nullptr;
  base::NodeName node;
  wire::DeviceInfo info;
  Duty duty = Duty::open;
  std::uint64_t reserved = 0;         ///< by every instance that is not gone
  std::vector<Instance*> instances;   ///< not gone
  base::TimePoint bus_busy_until{};   ///< with what was promised to those on their way up or down
  struct Claim {
    Model* model;
    std::uint64_t bytes;
    const char* reason;
    Instance* wake;                   ///< whom to wake with them; null: a new instance
    base::TimePoint expects_until;    ///< as in Offer
    std::uint64_t number;             ///< the same on all devices of a gang, in the order in which claims were made
    std::vector<Device*> gang;        ///< all its devices, of which each has the claim; empty: this one alone
    Tenant* tenant;                   ///< for whom
  };
  /// Ways up that were decided on and wait for others' bytes to return, in order: nobody may take those bytes in between.
  std::vector<Claim> claims;
  bool freed = false;                 ///< a claim or an instance left since revive_evicted() looked
  bool changed = false;               ///< in State::changed
  std::vector<Model*> pinned;         ///< those for whom it is kept, in the order in which they began to wait
  ShortlistEntry entry;

  [[nodiscard]] std::uint64_t claimed() const;
  [[nodiscard]] std::uint64_t pinned_bytes() const;
};

struct Instance {
  /// Why no more requests are sent to it. Those in flight end first; then it is stopped.
  enum class Drain { none, scaled_down, evicted, replaced, asked, removed, suspect };

  base::InstanceId id;
  Model* model = nullptr;
  Device* device = nullptr;         ///< the first of its devices; null once gone
  std::vector<Device*> devices;     ///< that it takes, all of one node; more than one: a gang. Empty once gone
  std::uint64_t bytes = 0;          ///< reserved on each of its devices now
  std::uint64_t full_bytes = 0;     ///< ... while it is not in standby
  std::uint64_t host_bytes = 0;     ///< reserved of its node's host memory
  std::uint64_t ready_host_bytes = 0;  ///< ... while it is ready
  std::uint64_t disk_bytes = 0;     ///< reserved of its node's image budget (imaging)
  Phase phase = Phase::starting;
  base::TimePoint phase_since{};
  base::Duration phase_deadline{};  ///< what the node was given; 0: none
  Drain drain = Drain::none;
  bool killed = false;              ///< by an operator, with its requests
  bool exclusive = false;           ///< a retried request runs alone on it
  bool was_ready = false;
  bool used = false;                ///< it was ever sent a request
  bool can_freeze = false;          ///< so says its node
  bool wake_claimed = false;        ///< a claim is to wake it: nobody may stop it for its bytes
  wire::Way way = wire::Way::start;
  base::ImageId image;              ///< to be restored from, or to be made
  std::uint32_t in_flight = 0;
  std::uint64_t served = 0;
  base::TimePoint begun_at{}, ready_at{}, idle_since{};
  base::TimePoint turn_from{};      ///< its turn began: it was ready, or was taken back while it was leaving
  base::TimePoint rest_at{};        ///< not to be put to rest before
  base::TimePoint expects_until{};  ///< woken ahead of a request that is expected until then; epoch: it was not
  base::TimePoint rest_waits_since{};  ///< waiting for host memory to rest in; epoch: it does not
  std::string reason;
  Health health;
  Tenant* tenant = nullptr;         ///< whose it counts as: who last sent it a request, or for whom it was begun; null once gone
  base::TimePoint billed_at{};      ///< its time up to then is on somebody's account
  double given = 0;                 ///< device-seconds that each request that is under way from its ready on would have had
  ValueEntry by_value;              ///< in Shortlist
  ValueEntry by_host_value;         ///< in Node::resting

  [[nodiscard]] bool usable() const { return phase == Phase::ready && drain == Drain::none; }
  [[nodiscard]] bool rising() const { return phase == Phase::starting || phase == Phase::waking; }
  [[nodiscard]] bool leads(const Device& d) const { return device == &d; }  ///< for walks over devices that count it once
};

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
  /// As its own users call it: for messages to them.
  [[nodiscard]] std::string name() const { return base::public_name(spec.name); }
  /// The same for messages that another model's users may read: no tenant learns of another's models.
  [[nodiscard]] std::string name_for(const Model& reader) const {
    return base::tenant_part(spec.name) == base::tenant_part(reader.spec.name) ? name() : "another tenant's model";
  }
};

/// A way to get a model's replica onto a device, best first.
struct Offer {
  enum class Rank { free, returning, evict_idle, draining, evict_busy, none };
  Rank rank = Rank::none;
  Device* device = nullptr;                   ///< the first one, of a gang
  std::vector<Device*> gang;                  ///< all devices of a gang, in their order; empty: `device` alone
  Instance* wake = nullptr;                   ///< to be woken; null: a new instance
  std::uint64_t need = 0;                     ///< bytes beyond what `wake` holds, on each device
  std::vector<Instance*> victims;
  double cost = 0;                            ///< what the victims are worth
  std::int64_t score = 0;                     ///< when it answers, and what its victims are worth; the less the better
  base::TimePoint expects_until{};  ///< for a request that is expected until then; epoch: for those that are there
  Tenant* tenant = nullptr;         ///< for whom
  base::TimePoint chance_at = base::never();  ///< rank none: when time alone makes an offer

  [[nodiscard]] Rows<Device*> devices() const {
    return gang.empty() ? Rows<Device*>{&device, 1} : Rows<Device*>{gang.data(), gang.size()};
  }
};

struct Scheduler::State {
  static constexpr std::size_t kTiny = 16;  ///< devices; there everybody who waits looks at all of them at every change

  Policy policy;
  std::uint64_t next_instance = 1;
  std::uint64_t next_timer = 1;
  std::uint64_t next_claim = 1;
  std::unordered_map<base::ModelName, std::unique_ptr<Model>> models;
  std::vector<std::unique_ptr<Model>> retired;  ///< removed, with instances or requests left
  std::unordered_map<base::InstanceId, std::unique_ptr<Instance>> instances;  ///< also gone ones whose requests have not ended
  std::unordered_map<base::RequestId, Request> requests;
  std::unordered_map<base::NodeName, Node*> node_by_name;
  std::vector<std::unique_ptr<Node>> nodes;
  std::vector<std::unique_ptr<Device>> devices;
  std::vector<Device*> everywhere;  ///< all devices, in their order
  Shortlist shortlist;
  std::unordered_multimap<base::ImageId, Image*> images_by_id;
  std::unordered_map<base::ModelName, std::vector<Image*>> orphans;  ///< images of models that are not deployed, as they came
  std::unordered_set<Model*> failing;  ///< models that have a device to avoid
  std::unordered_set<Model*> keepers;  ///< models with minReplicas
  std::map<WaitOrder, Model*> waiters;  ///< in the order of their turns
  std::multiset<std::uint64_t> waiting_for;  ///< the bytes of each of them
  std::uint64_t next_waiter = 1;
  std::uint32_t lookers = 0;    ///< of those who wait, with looks_everywhere
  std::vector<Device*> changed;  ///< where somebody who waits may find room since settle() looked
  std::vector<Model*> dirty;
  bool room_changed = false;    ///< somebody who waits for room may have it now
  bool changed_everywhere = false;  ///< what decides about room changed on every device
  std::vector<Device*> freed;   ///< devices to be looked at by revive_evicted()
  base::TimePoint settled_at{};
  std::unordered_map<base::TenantName, std::unique_ptr<Tenant>> tenants;  ///< that were said, or had a replica
  std::vector<Tenant*> active;  ///< that hold something, or lately did
  std::size_t active_kept = 0;  ///< when it was last tidied
  struct ActiveTotals {
    base::TimePoint at = base::never();
    double held = 0, weights = 0;
    std::size_t count = 0, of = 0;  ///< that hold more than a little; of so many
  };
  mutable ActiveTotals active_totals;  ///< of `active`, a moment ago at most
  Timer accounts_timer;         ///< somebody's device-seconds are counted against what it may have; no model's
  std::unordered_map<std::string, std::uint32_t> domains;  ///< failure domains that nodes named
  std::uint32_t next_domain = 1;
  Timer settle_timer;           ///< an idle replica is still to be offered to those who wait; no model's
  bool draining = false;
  std::size_t in_flight = 0;
  double read_bytes_per_s = 0;   ///< of weights, by the fastest node known; 0: unknown
  double weights_share = 0;      ///< of a replica's device bytes that its weights were, on average over the last starts; 0: unknown
  Tide tide;
  ArrivalRate all_arrivals{kShareHalfLife};
  Preference preference;        ///< of all models while they were new: for those that are
  PauseHistogram first_pauses;  ///< the first few of every model: what is expected of one of which little is known
  RoutingTotals totals;
  Timers timers;

  // scheduler.cpp: bringing everything to rest after an event
  void touch(Model& m);
  void work(base::TimePoint now, Actions& out);
  void reconcile(Model& m, base::TimePoint now, Actions& out);
  void bury();
  Instance* find(base::InstanceId id);
  std::vector<Model*> models_in_order();
  void changed_on(Device& d);
  void changed_on(const Instance& i);

  // requests.cpp
  void arrive(const Arrival& a, base::TimePoint now, Actions& out);
  void answering(base::RequestId id, base::TimePoint now);
  void ended(base::RequestId id, base::TimePoint now, Actions& out);
  void failed(base::RequestId id, RequestFailure failure, base::TimePoint now, Actions& out);
  void dispatch(Request& r, Instance& i, bool waited, base::TimePoint now, Actions& out);
  Instance* pick(const Request& r, bool keep_least, base::TimePoint now);
  void note_first_byte(Request& r, base::TimePoint now) const;
  void engine_error(base::RequestId id);
  void dispatch_queue(Model& m, base::TimePoint now, Actions& out);
  void offer_idle_room(Device& d, base::TimePoint now);
  void release(Request& r, base::TimePoint now, Actions& out);

  // routing.cpp
  void judge_answer(Instance& i, bool bad, base::TimePoint now, Actions& out);
  bool answers_slowly(const Instance& i, base::Duration took) const;

  // refusals.cpp
  void refuse(Request& r, Refuse::Why why, std::string message, base::Duration retry_after, Actions& out);
  void refuse_all(Model& m, Refuse::Why why, const std::string& message, base::Duration retry_after, Actions& out);
  void refuse_overdue(Model& m, base::TimePoint now, Actions& out);
  base::Duration retry_after(const Model& m, base::TimePoint now) const;

  // instances.cpp
  Instance& create(Model& m, std::vector<Device*> on, Phase phase, std::uint64_t bytes, Tenant& whose, base::TimePoint now);
  bool enter(Instance& i, Trigger by, base::TimePoint now);
  void hold(Instance& i, std::uint64_t device_bytes, std::uint64_t host_bytes, base::TimePoint now);
  void start(Device& d, const Device::Claim& claim, base::TimePoint now, Actions& out);
  void drain_instance(Instance& i, Instance::Drain why, std::string reason, base::TimePoint now, Actions& out);
  void stop(Instance& i, base::TimePoint now, Actions& out, Trigger by = Trigger::stop);
  void revive(Instance& i, base::TimePoint now);
  void join_usable(Instance& i);
  void leave_usable(Instance& i);
  void ready(const wire::InstanceReady& e, base::TimePoint now, Actions& out);
  void down(const wire::InstanceDown& e, base::TimePoint now, Actions& out);
  void gone(Instance& i, base::TimePoint now, Actions& out);
  void outdated(base::InstanceId id, const std::string& reason, base::TimePoint now, Actions& out);

  // overdue.cpp
  base::TimePoint overdue_at(const Instance& i) const;
  void end_overdue(Model& m, base::TimePoint now, Actions& out);
  bool late_to_stop(const Instance& i, base::TimePoint now) const;

  // tiers.cpp
  enum class Rest { frozen, stopped, waits };
  Rest rest(Instance& i, const char* reason, base::TimePoint now, Actions& out);
  bool may_rest_in_standby(const Instance& i) const;
  RestAnswer resting_place(const Instance& i) const;
  base::Duration read_again(const Instance& i) const;
  void freeze(Instance& i, std::string why, base::TimePoint now, Actions& out);
  void wake(Device& d, const Device::Claim& claim, base::TimePoint now, Actions& out);
  void frozen(const wire::InstanceStandby& e, base::TimePoint now, Actions& out);
  void freeze_failed(const wire::FreezeFailed& e, base::TimePoint now, Actions& out);
  static void woke_up(Instance& i, base::TimePoint now);
  static void rest_failed(Instance& i, Phase was);
  void stop_rested(Model& m, base::TimePoint now, Actions& out);
  std::uint64_t lasting(const Instance& i, base::TimePoint now) const;
  double resting_worth(const Instance& i, base::TimePoint now) const;
  std::uint32_t thawing(const Model& m, base::TimePoint now) const;
  base::TimePoint patience_ends(const Instance& i) const;
  base::Result<std::uint32_t> freeze_model(const base::ModelName& name, base::TimePoint now, Actions& out);
  base::Result<bool> wake_model(const base::ModelName& name, base::TimePoint now, Actions& out);

  // host_memory.cpp
  void sort_into_resting(Instance& i) const;
  static void note_held(const Instance& i);
  static std::uint64_t expected_device_bytes(const Instance& i);
  static std::uint64_t expected_host_bytes(const Instance& i);
  double host_worth(const Instance& i, base::TimePoint now) const;
  Instance* least_worth_resting(Node& node, double worth, base::TimePoint now) const;
  bool make_host_room(const Instance& i, base::TimePoint now, Actions& out);
  void relieve_host(Node& node, base::TimePoint now, Actions& out);

  // images.cpp
  void adopt_image(wire::ImageInfo info, Node& node);
  void forget_image(Image& image);
  static void drop(Image& image, std::string why, Actions& out);
  void drop_images(Model& m, const std::string& why, Actions& out);
  Image* find_image(const base::ImageId& id) const;
  Image* image_for(const Model& m, const Node& node) const;
  static const Image* image_on(const Model& m, const Node& node);
  WayAnswer way_up(Model& m) const;
  void came_up(Instance& i, const wire::InstanceReady& e, base::TimePoint now, Actions& out);
  void restore_failed(Instance& i, base::TimePoint now, Actions& out);
  void image_failed(const Instance& i, Actions& out);
  double image_worth(const Image& image, base::TimePoint now) const;
  std::uint64_t make_disk_room(Node& node, const Model& m, base::TimePoint now, Actions& out);
  void relieve_disk(Node& node, base::TimePoint now, Actions& out);
  void image_gone(const wire::ImageGone& e, base::TimePoint now, Actions& out);
  base::Status drop_by_hand(const base::ImageId& id, base::TimePoint now, Actions& out);

  // snapshots.cpp
  /// What another image of the model may take of its tenant's disk; 0: nothing.
  [[nodiscard]] std::uint64_t image_quota(const Model& m) const;
  bool wants_image(const Model& m, const Node& node) const;
  const std::vector<Device*>& snapshot_places(const Model& m);
  void think_of_snapshot(Model& m, base::TimePoint now, Actions& out);
  base::Result<base::ImageId> try_snapshot(Model& m, bool by_hand, base::TimePoint now, Actions& out);
  base::ImageId begin_snapshot(Model& m, const Offer& place, std::uint64_t disk_bytes, bool by_hand, base::TimePoint now, Actions& out);
  void snapshot_later(Model& m, base::TimePoint now) const;
  void snapshot_ended(Instance& i, const std::string& failure, base::TimePoint now);
  void taken(const wire::SnapshotTaken& e, base::TimePoint now, Actions& out);
  void not_taken(const wire::SnapshotFailed& e, base::TimePoint now, Actions& out);
  base::Result<base::ImageId> snapshot_model(const base::ModelName& name, base::TimePoint now, Actions& out);

  // failures.cpp
  void start_failed(Model& m, Instance& i, base::TimePoint now, Actions& out);
  void back_off(Model& m, const Instance& i, base::TimePoint now);
  bool settled(const Instance& i, base::TimePoint now) const;
  void succeeded(Model& m);

  // autoscale.cpp
  std::uint32_t desired(const Model& m) const;
  std::uint32_t missing(const Model& m, base::TimePoint now) const;
  std::uint32_t worthwhile(const Model& m, base::TimePoint now) const;
  void stop_idle(Model& m, base::TimePoint now, Actions& out);
  void wake_ahead(Model& m, base::TimePoint now, Actions& out);
  base::Duration peak_window(const spec::Scaling& scaling) const;
  static bool can_wake(const Model& m);
  void scale_down(Model& m, base::TimePoint now, Actions& out);
  void revive_scaled_down(Model& m, base::TimePoint now);
  void drop_surplus_claims(Model& m, base::TimePoint now, Actions& out);
  base::TimePoint wake_at(Model& m, base::TimePoint now) const;

  // keeping.cpp
  void think_of_keeping(Model& m, base::TimePoint now) const;
  void keep_with_tide(Model& m, base::TimePoint now) const;
  base::Duration tide_lasts(const Model& m, base::TimePoint now) const;
  double share_of(const Model& m, base::TimePoint now) const;
  static bool is_new(const Model& m);
  void note_arrival(Model& m, base::TimePoint now);
  void pause_ended(Model& m, base::TimePoint now);
  static base::TimePoint idles_out_at(const Instance& i);

  // placement.cpp
  void settle(base::TimePoint now, Actions& out);
  void try_place(Model& m, base::TimePoint now, Actions& out);
  void refuse_hopeless(Model& m, base::TimePoint now, Actions& out);
  Offer offer(Device& d, const Model& m, Instance* to_wake, base::TimePoint now, const std::vector<Instance*>& leaving = {}) const;
  const std::vector<Device*>& places_for(Model& m);
  bool looks_at_all() const { return devices.size() <= policy.look_everywhere_up_to; }
  bool tiny() const { return looks_at_all() && devices.size() <= kTiny; }
  Offer best_offer(Model& m, const std::vector<Device*>& places, base::TimePoint now) const;
  void look_at_changed(Model& m, const std::vector<Device*>& where, base::TimePoint now, Actions& out);
  void note_freed(Device& d);
  void accept(const Offer& o, Model& m, base::TimePoint now, Actions& out);
  bool accept_for_payer(Offer& o, Model& m, base::TimePoint now, Actions& out);
  void fund(Device& d, base::TimePoint now, Actions& out);
  std::uint64_t lasting_on(const Device& d, base::TimePoint now) const;
  void cancel_wake(Instance& i, base::TimePoint now, Actions& out);
  void revive_evicted(base::TimePoint now);
  void cancel_claim(Model& m, Device& d, base::TimePoint now, Actions& out);
  Device::Claim take_claim(Device& d, std::size_t n, base::TimePoint now);
  void look_at_claims(const Device& d);
  void drop_claims(Model& m, base::TimePoint now, Actions& out);
  void drop_stuck_claims(Model& m, base::TimePoint now, Actions& out);
  std::vector<Candidate> candidates(const Device& d, const Model& m, const Instance* to_wake, base::TimePoint now,
                                    const std::vector<Instance*>& leaving) const;
  std::uint64_t gives_up(const Instance& i, base::TimePoint now) const;
  void make_way(Instance& victim, const std::string& reason, base::TimePoint now, Actions& out);
  bool freezes_to_make_way(const Instance& i, base::TimePoint now) const;

  // gangs.cpp
  Offer gang_offer(const std::vector<Device*>& among, const Model& m, Instance* to_wake, base::TimePoint now) const;
  void spare_superfluous(Offer& gang, const Model& m, base::TimePoint now) const;
  void pin_gang(Model& m, base::TimePoint now);
  static bool funded_elsewhere(const Device& d, const Device::Claim& claim);

  // estimate.cpp
  base::Duration quickest_up(const Model& m, const Node& node) const;
  std::uint64_t weights_of(const Model& m) const;
  base::Duration disk_time(const Model& m, const Node& node) const;
  base::Duration time_to_answer(const Device& d, const Model& m, const Instance* to_wake, base::TimePoint now) const;
  base::Duration time_to_return(const Device& d, base::TimePoint now) const;
  base::Duration time_to_make_way(const Offer& o, base::TimePoint now) const;
  void make_room_for_weights(const Model& m, Node& node, base::TimePoint now, Actions& out);
  bool standby_is_dear(const Instance& i, base::TimePoint now) const;
  static const Device& busiest_bus(const Instance& i);
  void promise_way_up(const Instance& i, base::TimePoint now);
  static void promise_way_down(const Instance& i, base::TimePoint now);
  static void weights_rest(const Model& m, Node& node);
  static void weights_used(const Model& m, Node& node, base::TimePoint now);
  static std::uint32_t at_work(const Device& d, const Model& m);
  static bool better(const Offer& a, const Offer& b, const Model& m);
  void judge(Offer& o, const Model& m, base::TimePoint now) const;

  // accounts.cpp: what tenants hold and have had
  Tenant& tenant(const base::TenantName& name);
  base::Status set_tenant(const TenantPolicy& said, base::TimePoint now, Actions& out);
  void forget_tenant(const base::TenantName& name, base::TimePoint now, Actions& out);
  static double held_devices(const Instance& i);
  static double claimed_devices(const Device& d, const Device::Claim& claim);
  void hold_for(Tenant& t, double more, base::TimePoint now);
  void bill(Instance& i, base::TimePoint now);
  void bill(Request& r, base::TimePoint now);
  void charge(Tenant& t, double DeviceSeconds::*what, double device_seconds, base::TimePoint now);
  void begin_day(Tenant& t, base::TimePoint now) const;
  void give_to(Instance& i, Tenant* t, base::TimePoint now);
  void used_by(Instance& i, Tenant& t, base::TimePoint now);
  void look_at_accounts(base::TimePoint now, Actions& out);
  bool exhausted(Tenant& t, base::TimePoint now) const;
  static Refuse exhausted_refusal(base::RequestId request, const Tenant& t, base::TimePoint now);
  // shares.cpp: what follows from it
  double overuse(const Tenant& t, base::TimePoint now) const;
  double standing(const Instance& i, base::TimePoint now) const;
  double lately(const Tenant& t, base::TimePoint now) const;
  bool within_quota(const Tenant& t, double more) const;
  Tenant* payer(const Model& m, const Offer& o) const;
  void refuse_beyond_quota(Model& m, const Offer& o, Actions& out);
  void make_quota_room(const Model& m, const Offer& o, base::TimePoint now, Actions& out);
  void keep_to_quota(Tenant& t, double more, const Model* for_whom, base::TimePoint now, Actions& out);

  // turns.cpp
  WaitOrder place_of(const Model& m, base::TimePoint now);
  void move_up(Model& m, base::TimePoint now);
  void join_waiters(Model& m, base::TimePoint now);
  void leave_waiters(Model& m);
  void look_everywhere(Model& m);
  bool entitled(const Model& m) const;
  base::Duration turn(const Model& m) const;
  base::Duration turn_against(const Instance& i, const Model& challenger) const;
  base::TimePoint evictable_at(const Instance& i, const Model& challenger) const;
  std::uint64_t pinned_by_others(const Device& d, const Model& m) const;
  void pin(Model& m, base::TimePoint now);
  void unpin(Model& m);
  void pin_to(Model& m, std::vector<Device*> where);

  // capacity.cpp
  std::uint64_t kept_for_others(const Device& d, const Model* except) const;
  bool can_ever_fit(const Device& d, const Model& m) const;
  bool can_ever_fit(const Node& node, const Model& m) const;
  std::uint64_t loading_bytes(const Device& d, const Model& m) const;
  std::string why_never(const Model& m) const;
  base::Status can_ever_run(const spec::ModelSpec& spec) const;

  // cordon.cpp
  base::Result<std::uint32_t> set_duty(const base::NodeName& node, const base::DeviceId& device, Duty duty, base::TimePoint now, Actions& out);
  std::uint32_t evacuate(Device& d, base::TimePoint now, Actions& out);

  // models.cpp
  Node& join(const wire::NodeHello& hello);
  std::uint32_t domain_of(const std::string& named, const Node& node);
  void renew(const wire::NodeHello& hello, Node& node);
  void equip(Node& node, const wire::NodeHello& hello);
  void adopt_orphans(Model& m, const base::ModelName& name);
  void joined(const wire::NodeHello& hello, base::TimePoint now, Actions& out);
  void deployed(const spec::ModelSpec& spec, const base::TenantName& owner, base::TimePoint now, Actions& out);
  void removed(const base::ModelName& name, base::TimePoint now, Actions& out);
  void stopped(const base::ModelName& name, bool kill, base::TimePoint now, Actions& out);
  void drain(base::TimePoint now, Actions& out);
  void end_instances(Model& m, Instance::Drain why, const std::string& reason, base::TimePoint now, Actions& out);
};

}  // namespace thaw::control
