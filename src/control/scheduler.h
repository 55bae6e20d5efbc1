#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "control/cause.h"
#include "control/explain.h"
#include "control/rest_policy.h"
#include "control/tenants.h"
#include "spec/model_spec.h"
#include "wire/messages.h"

/// Which replica serves a request, when replicas start and stop, and who makes room for whom. Pure: events and a time
/// in, actions out; no clock, I/O, thread or random source. The daemon feeds it real events, the simulator simulated ones.
namespace thaw::control {

// --- actions: what the caller must now do, in this order

struct Start { base::NodeName node; wire::StartInstance command; std::string why; Cause cause{}; };  ///< "first request; restores in 0.4 s, starts in 2 s"
struct Stop { base::NodeName node; base::InstanceId instance; std::string reason; Cause cause{}; };  ///< "idle", "evicted for m2", "removed", ...
/// Send the request to the instance now. `cold`: it had to wait for a start.
struct Dispatch { base::RequestId request; base::InstanceId instance; bool cold = false; base::Duration queued{}; };
/// Answer the request with an error; the scheduler has forgotten it.
struct Refuse {
  enum class Why { queue_full, queue_timeout, no_capacity, start_failed, replica_failed, model_removed, draining, tenant_quota };
  base::RequestId request;
  Why why = Why::queue_full;
  std::string message;               ///< for the client, with the remedy
  base::Duration retry_after{};      ///< 0: retrying does not help
};
const char* to_string(Refuse::Why why);

/// The instance serves nothing and is sent nothing from here on.
struct Freeze { base::NodeName node; wire::FreezeInstance command; std::string why; Cause cause{}; };
struct Wake { base::NodeName node; wire::WakeInstance command; std::string why; Cause cause{}; };
struct Snapshot { base::NodeName node; wire::TakeSnapshot command; std::string why; Cause cause{}; };
struct Drop { base::NodeName node; wire::DropImage command; std::string why; };

using Action = std::variant<Start, Stop, Dispatch, Refuse, Freeze, Wake, Snapshot, Drop>;
using Actions = std::vector<Action>;  ///< appended to; the caller clears and reuses it

// --- events

struct Arrival {
  base::RequestId request;
  base::ModelName model;
  base::TenantName tenant;
  /// Equal for requests of which a replica that served one may serve the next the faster, because they begin alike: they go to the same replica as
  /// far as its load allows. 0: none.
  std::uint64_t affinity = 0;
  /// Absent: its model's. Lowered to what its tenant may ask for.
  std::optional<spec::Priority> priority{};
  /// Of the model's adapters, the one that is asked; empty: the model itself. Replicas that have it loaded go first.
  base::ModelName adapter{};
};

enum class RequestFailure {
  connect,   ///< the replica could not be reached or closed before the first byte of the answer
  stalled,   ///< no byte within the model's stall or request timeout
  cut,       ///< the replica closed in the middle of the answer
};

/// Bounds and constants of the policy; each has a default that the scenarios in tests/scenarios pin down.
struct Policy {
  std::uint32_t max_attempts = 3;                      ///< replicas a request may be tried on
  base::Duration backoff_first = base::Millis(200);    ///< after the first failed start of a model; doubles
  base::Duration backoff_max = base::Seconds(30);
  std::uint32_t start_failures_before_refusing = 3;    ///< consecutive; then waiting requests are refused with the engine's words
  base::Duration turn_min = base::Millis(500);         ///< how long a busy model may keep a device that another waits for ...
  base::Duration turn_max = base::Seconds(30);         ///< ... between these, scaled by its start cost
  double turn_per_start_cost = 4.0;
  base::Duration stop_grace = base::Seconds(5);
  bool automatic_idle = false;  ///< idle replicas rest as pauses and costs say (keep_alive.h), at the latest after their model's idleTimeout
  bool forecasts = true;        ///< false: by what they cost alone, whatever is expected; to compare with
  std::uint32_t alternating_turns = 10;                ///< a model evicted less than so many turns ago does not interrupt an incumbent's turn
  base::Duration spare_after = base::Seconds(5);       ///< how long a replica must be idle before another model may have its place for an extra replica
  base::Duration settled_after = base::Seconds(10);    ///< a replica that ends sooner after it was ready is held against its model (back-off)
  base::Duration stop_overdue = base::Seconds(10);     ///< beyond stop_grace; then nobody counts on the stopping replica's bytes any more
  base::Duration freeze_deadline = base::Seconds(30);
  base::Duration wake_deadline = base::Seconds(30);    ///< or the model's start deadline, if that is shorter
  base::Duration snapshot_deadline = base::Seconds(300);  ///< beyond the model's start deadline
  base::Duration answer_overdue = base::Seconds(5);    ///< beyond a command's deadline; then the node is taken not to answer, and the instance is stopped
  base::Duration freeze_patience = base::Millis(250);  ///< beyond the time that freezes take: how long a request waits for one to end before another replica is begun
  base::Duration host_room_wait = base::Seconds(10);   ///< how long an idle replica waits for host memory of others that leave standby for it
  base::Duration snapshot_after = base::Seconds(5);    ///< between a start and the thought of making an image, and between tries; doubles
  std::uint32_t look_everywhere_up_to = 256;           ///< devices; where there are more, a shortlist is looked at (shortlist.h)
  base::Duration look_again_every = base::Seconds(1);  ///< how often whoever waits in a fleet that is not tiny looks beyond what changed
  std::uint32_t outlier_strikes = 5;                   ///< bad answers in a row before a replica gets no new requests for a while ...
  base::Duration outlier_ejection = base::Seconds(30);      ///< ... for so long, and longer each time
  base::Duration outlier_ejection_max = base::Seconds(300);
  std::uint32_t outlier_ejections = 3;                 ///< then it is replaced
  base::Duration outlier_slow_least = base::Seconds(1);     ///< a first byte that is there by then is never held against a replica
  std::uint32_t snapshot_tries = 10;                   ///< to find a quiet moment with room, after one start
};

/// What people let a device do.
enum class Duty {
  open,       ///< everything
  cordoned,   ///< no new replica comes there; those that are there stay, also in standby, and are woken
  drained,    ///< ... and they leave, once their requests have ended
};
const char* to_string(Duty duty);

// --- views, for `thaw ps`, `thaw ls`, metrics

enum class InstanceState { starting, ready, freezing, standby, waking, imaging, stopping };
const char* to_string(InstanceState state);

struct InstanceView {
  base::InstanceId instance;
  base::ModelName model;
  base::NodeName node;
  base::DeviceId device;               ///< the first of its devices
  std::vector<base::DeviceId> devices;  ///< all of them
  InstanceState state = InstanceState::starting;
  std::uint64_t device_bytes = 0;  ///< reserved now, on all its devices together
  std::uint64_t host_bytes = 0;    ///< reserved of the node's host memory, beside its device's
  wire::Way way = wire::Way::start;  ///< by which it last came up, or is coming up
  base::ImageId image;             ///< it is being restored from, or that is being made of it; else empty
  std::uint32_t in_flight = 0;
  std::uint64_t served = 0;
  base::TimePoint ejected_until{};  ///< gets no new requests until then, because it answers worse than the others; past or epoch: it does
  base::TimePoint since{};        ///< when the instance was begun
  base::TimePoint idle_since{};   ///< end of its last request; never() while busy or not ready
  std::string reason;             ///< why it was started, is frozen or is being stopped
};

struct ModelView {
  base::ModelName model;
  std::uint32_t ready = 0, starting = 0, waking = 0, freezing = 0, standby = 0, stopping = 0;  ///< `stopping` has also those that end their requests first
  std::uint32_t images = 0;
  std::uint64_t image_bytes = 0;     ///< of them, on disk
  std::uint32_t in_flight = 0, queued = 0;
  std::uint64_t cold_starts = 0, start_failures = 0, evictions = 0;
  std::uint64_t ejections = 0;       ///< of replicas that answered worse than the others
  base::TimePoint backoff_until{};   ///< past or epoch: none
  std::string last_failure;          ///< of a start or a replica; empty: none
  base::Duration start_cost{};       ///< EWMA of start to ready; 0: never measured
  Costs costs;                       ///< of every way
  std::uint64_t wakes = 0, restores = 0, freezes = 0;   ///< that succeeded
  std::uint64_t wake_failures = 0, restore_failures = 0, freeze_failures = 0, snapshot_failures = 0;
  std::string rests;                 ///< where it last came to rest and why: "standby: wakes in 20 ms, starts in 1.2 s"; empty: never
  std::string last_snapshot_failure;
};

struct DeviceView {
  base::NodeName node;
  wire::DeviceInfo info;
  std::uint64_t reserved_bytes = 0;
  Duty duty = Duty::open;
};

struct NodeView {
  base::NodeName node;
  std::uint64_t host_reserved_bytes = 0, host_budget_bytes = 0;
  std::uint64_t image_reserved_bytes = 0, image_budget_bytes = 0;  ///< reserved: images and those being made
  std::vector<wire::DriverInfo> drivers;
  std::string domain;   ///< as it named it; empty: it is its own
};

struct ImageView {
  base::NodeName node;
  wire::ImageInfo info;
  std::uint32_t restores = 0;     ///< from it, since the controller started
  bool dropping = false;          ///< its end was ordered
};

/// Since the scheduler was made.
struct RoutingTotals {
  std::uint64_t affinity_followed = 0;  ///< requests that went to the replica that affinity names
  std::uint64_t affinity_spilled = 0;   ///< ... to another one, because that was busy, full or ejected
  std::uint64_t retries = 0, retries_denied = 0;
  std::uint64_t ejections = 0;          ///< replicas that got no new requests for a while
};

/// Lifecycle: constructed empty; models and nodes come and go by events. Not thread-safe: one owner calls it, in time order.
/// Who owns what: the scheduler owns its books; instance ids are given out by it, starting behind `first_instance`.
/// Cost: an event touches one model and its instances (and a device's instances when it must make room), never the idle models.
class Scheduler {
 public:
  explicit Scheduler(Policy policy = {}, std::uint64_t first_instance = 1);
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  void node_joined(const wire::NodeHello& hello, base::TimePoint now, Actions& out);

  /// Whether a replica could ever run on the present nodes: right device kind, and it fits an empty device beside the replicas
  /// that other models always keep (minReplicas). The error names the numbers and the remedy. `spec` needs device_memory_bytes.
  [[nodiscard]] base::Status can_ever_run(const spec::ModelSpec& spec) const;

  /// Adds a model or replaces its spec. Replaced with a change that matters to a running engine, its instances are
  /// drained and replaced on demand. Starts minReplicas. `owner`: the tenant whose the model is; what is kept for nobody's request is on its account.
  void model_deployed(const spec::ModelSpec& spec, base::TimePoint now, Actions& out, const base::TenantName& owner = base::TenantName("default"));
  /// Refuses what waits (model_removed), lets in-flight requests end, stops its instances.
  void model_removed(const base::ModelName& model, base::TimePoint now, Actions& out);
  /// `thaw stop`: stops every replica once its in-flight requests ended (at once with `kill`); the next request starts one again. minReplicas are started again
  /// only by the next request or deploy.
  void model_stopped(const base::ModelName& model, bool kill, base::TimePoint now, Actions& out);
  /// `thaw freeze`: every idle replica goes to standby now, whatever the policy says. How many; an error, with the remedy, when none can.
  /// minReplicas are started again only by the next request or deploy.
  base::Result<std::uint32_t> model_frozen(const base::ModelName& model, base::TimePoint now, Actions& out);
  /// `thaw wake`: one replica comes up by the best way there is, if none is up or on its way. False: one is.
  base::Result<bool> model_woken(const base::ModelName& model, base::TimePoint now, Actions& out);
  /// `thaw snapshot`: an image is made now. Its id; an error, with the remedy, when that is impossible at present.
  base::Result<base::ImageId> model_snapshot(const base::ModelName& model, base::TimePoint now, Actions& out);
  /// `thaw images rm`. not_found: no such image.
  base::Status image_dropped(const base::ImageId& image, base::TimePoint now, Actions& out);
  /// `thaw cordon`, `drain`, `uncordon`: of a node's device, or with an empty `device` of all that it has at present. How many replicas leave;
  /// not_found: no such node or device. Holds until it is changed, whatever the node says, but not beyond the scheduler's life.
  base::Result<std::uint32_t> set_duty(const base::NodeName& node, const base::DeviceId& device, Duty duty, base::TimePoint now, Actions& out);
  [[nodiscard]] bool has_model(const base::ModelName& model) const;

  /// What a tenant may have from now on. invalid: a number is out of its range (tenants.h), and nothing is changed.
  base::Status set_tenant(const TenantPolicy& policy, base::TimePoint now, Actions& out);
  /// It has the defaults from now on. What it has used so far today is kept.
  void forget_tenant(const base::TenantName& tenant, base::TimePoint now, Actions& out);
  /// Every tenant that was said or that used a device, by name; up to `now`.
  [[nodiscard]] std::vector<TenantView> tenants(base::TimePoint now) const;
  /// Seconds of a whole device that a request has had of its replica up to `now`: of each second of the replica's, an equal part for everybody whom it
  /// serves in it. What the way up took is its tenant's, and no request's. 0 while it waits. Ask before request_ended.
  [[nodiscard]] double device_seconds(base::RequestId request, base::TimePoint now) const;

  /// Dispatches, queues or refuses. The model must exist (has_model). Every arrival is answered by exactly one Dispatch or Refuse at a
  /// time, until request_ended; after request_failed it may get another.
  void request_arrived(const Arrival& arrival, base::TimePoint now, Actions& out);
  /// The first byte of the answer went out to the client: no retry from here on. May make next_tick() due at once (a retried
  /// request that ran alone on its replica lets the others in).
  void request_answering(base::RequestId request, base::TimePoint now);
  /// The answer is an error of the engine's own (HTTP 5xx): relayed as it is, and held against the replica when it ends. Before request_ended.
  void request_engine_error(base::RequestId request);
  /// Answered in full, or the client went away: in either case, queued or dispatched. Idle time counts from here.
  void request_ended(base::RequestId request, base::TimePoint now, Actions& out);
  /// The replica failed this request. If nothing went out and attempts are left it is queued again (in front), else forgotten: no Refuse
  /// comes when bytes went out (the gateway ends the stream with an error event). Suspect replicas (stalled, connect) are stopped.
  /// A request that was in flight on a replica that crashed is tried again alone on its replica, so that it cannot take bystanders down twice.
  void request_failed(base::RequestId request, RequestFailure failure, base::TimePoint now, Actions& out);

  void instance_ready(const wire::InstanceReady& event, base::TimePoint now, Actions& out);
  /// Requests in flight on it are NOT failed here: the gateway sees their connections break and reports each by request_failed.
  void instance_down(const wire::InstanceDown& event, base::TimePoint now, Actions& out);
  void instance_gone(const wire::InstanceGone& event, base::TimePoint now, Actions& out);
  /// What the instance was started from is another by now (its model's file changed): it takes no new requests, ends those it has and
  /// is replaced on demand, by the same rules as when a model is deployed with another file. `reason`: for people.
  void instance_outdated(base::InstanceId instance, const std::string& reason, base::TimePoint now, Actions& out);
  /// A start found the model's file to be another one: what was made of the old one is dropped.
  void images_outdated(const base::ModelName& model, const std::string& reason, base::TimePoint now, Actions& out);
  /// How large the instance's weights are and how fast its node read them: what a wake costs besides, where standby takes weights out of memory.
  void instance_weights(const wire::InstanceWeights& event);
  /// The instance has loaded the adapter; until it sleeps or ends it has it.
  void adapter_loaded(base::InstanceId instance, const base::ModelName& adapter);
  void instance_standby(const wire::InstanceStandby& event, base::TimePoint now, Actions& out);
  void freeze_failed(const wire::FreezeFailed& event, base::TimePoint now, Actions& out);
  void snapshot_taken(const wire::SnapshotTaken& event, base::TimePoint now, Actions& out);
  void snapshot_failed(const wire::SnapshotFailed& event, base::TimePoint now, Actions& out);
  void image_gone(const wire::ImageGone& event, base::TimePoint now, Actions& out);

  /// SIGTERM: refuses what waits and what arrives (draining); in-flight requests go on.
  void drain(base::TimePoint now, Actions& out);

  /// When tick() must be called next; never() if nothing is pending. Calling early or late is harmless.
  [[nodiscard]] base::TimePoint next_tick() const;
  void tick(base::TimePoint now, Actions& out);

  /// What would become of a request of `asker`'s for the model if it came now, by the code that would decide it; nothing is changed. The model must exist
  /// (has_model). Between a look and the request others come: it is no promise. `priority`: what it asks for; absent: its model's.
  [[nodiscard]] Explanation explain(const base::ModelName& model, const base::TenantName& asker, std::optional<spec::Priority> priority,
                                    base::TimePoint now) const;

  [[nodiscard]] std::vector<InstanceView> instances() const;
  [[nodiscard]] std::vector<ModelView> models() const;
  [[nodiscard]] std::vector<DeviceView> devices() const;
  [[nodiscard]] std::vector<NodeView> nodes() const;
  [[nodiscard]] std::vector<ImageView> images() const;
  [[nodiscard]] const RoutingTotals& routing() const;
  [[nodiscard]] std::size_t requests_in_flight() const;  ///< dispatched and not ended

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace thaw::control
