#pragma once

#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "control/demand.h"
#include "control/queue.h"
#include "control/request.h"
#include "control/scheduler.h"
#include "control/timers.h"
#include "control/victims.h"

/// The scheduler's books, private to src/control. Every event changes them and marks the models it concerns; work() then
/// brings those models, and whoever waits for room, to rest. Nothing here ever walks over all models on an event.
namespace thaw::control {

struct Device {
  base::NodeName node;
  wire::DeviceInfo info;
  std::uint64_t reserved = 0;         ///< by every instance that is not gone
  std::vector<Instance*> instances;   ///< not gone
  struct Claim {
    Model* model;
    std::uint64_t bytes;
    const char* reason;
  };
  /// Starts that were decided on and wait for others' bytes to return, in order: nobody may take those bytes in between.
  std::vector<Claim> claims;
  bool freed = false;                 ///< a claim or an instance left since revive_evicted() looked

  [[nodiscard]] std::uint64_t claimed() const;
};

struct Instance {
  enum class Phase { starting, ready, stopping, gone };
  /// Why no more requests are sent to it. Those in flight end first; then it is stopped.
  enum class Drain { none, scaled_down, evicted, replaced, asked, removed, suspect };

  base::InstanceId id;
  Model* model = nullptr;
  Device* device = nullptr;         ///< null once gone
  std::uint64_t bytes = 0;
  Phase phase = Phase::starting;
  Drain drain = Drain::none;
  bool killed = false;              ///< by an operator, with its requests
  bool exclusive = false;           ///< a retried request runs alone on it
  bool was_ready = false;
  bool used = false;                ///< it was ever sent a request
  std::uint32_t in_flight = 0;
  std::uint64_t served = 0;
  base::TimePoint begun_at{}, ready_at{}, idle_since{}, stopped_at{};
  base::TimePoint turn_from{};      ///< its turn began: it was ready, or was taken back while it was leaving
  std::string reason;

  [[nodiscard]] bool usable() const { return phase == Phase::ready && drain == Drain::none; }
};

struct Model {
  spec::ModelSpec spec;
  std::uint64_t bytes = 0;            ///< of one replica
  std::vector<Instance*> instances;   ///< not gone
  std::vector<Instance*> usable;      ///< ready and not draining, by id
  std::vector<Device*> claims;        ///< one entry a claim
  std::uint32_t starting = 0;
  std::uint32_t in_flight = 0;
  FairQueue queue;
  PeakWindow peak;
  ArrivalRate rate;
  RunningMean start_cost, service;
  Timer timer;
  bool removed = false;
  bool paused = false;                ///< stopped by hand: minReplicas do not count until the next request or deploy
  bool dirty = false;                 ///< in State::dirty

  // Waiting for room (placement.cpp, turns.cpp).
  bool waiting = false;
  bool waits_entitled = false;
  base::TimePoint waiting_since{};
  base::TimePoint chance_at = base::never();  ///< when time alone may give it room
  Device* pinned = nullptr;                   ///< where nobody younger may take room any more
  std::optional<base::TimePoint> evicted_at;

  // Failures (failures.cpp).
  std::uint32_t failures = 0;         ///< consecutive failed starts
  std::uint32_t backoff_step = 0;     ///< doublings so far
  base::TimePoint failed_at{}, backoff_until{};
  Device* failed_on = nullptr;
  std::string last_failure;
  std::uint64_t cold_starts = 0, start_failures = 0, evictions = 0;

  [[nodiscard]] std::uint32_t min_replicas() const { return paused || removed ? 0 : spec.scaling.min_replicas; }
  [[nodiscard]] std::uint32_t claimed() const { return static_cast<std::uint32_t>(claims.size()); }
  [[nodiscard]] std::uint32_t ready() const { return static_cast<std::uint32_t>(usable.size()); }
  [[nodiscard]] std::uint32_t coming() const { return starting + claimed(); }
  [[nodiscard]] std::uint32_t replicas() const { return ready() + coming(); }
  [[nodiscard]] std::uint32_t waiting_requests() const { return static_cast<std::uint32_t>(queue.size()); }
  [[nodiscard]] const std::string& name() const { return spec.name.str(); }
};

/// A way to get a model's replica onto a device, best first.
struct Offer {
  enum class Rank { free, returning, evict_idle, draining, evict_busy, none };
  Rank rank = Rank::none;
  Device* device = nullptr;
  std::vector<Instance*> victims;
  double cost = 0;                            ///< what the victims are worth
  base::TimePoint chance_at = base::never();  ///< rank none: when time alone makes an offer
};

struct Scheduler::State {
  Policy policy;
  std::uint64_t next_instance = 1;
  std::uint64_t next_timer = 1;
  std::unordered_map<base::ModelName, std::unique_ptr<Model>> models;
  std::vector<std::unique_ptr<Model>> retired;  ///< removed, with instances or requests left
  std::unordered_map<base::InstanceId, std::unique_ptr<Instance>> instances;  ///< also gone ones whose requests have not ended
  std::unordered_map<base::RequestId, Request> requests;
  std::vector<std::unique_ptr<Device>> devices;
  std::vector<Model*> waiters;  ///< in the order in which they began to wait
  std::vector<Model*> dirty;
  bool room_changed = false;    ///< somebody who waits for room may have it now
  bool freed = false;           ///< of some device
  base::TimePoint settled_at{};
  Timer settle_timer;           ///< an idle replica is still to be offered to those who wait; no model's
  bool draining = false;
  std::size_t in_flight = 0;
  Timers timers;

  // scheduler.cpp: bringing everything to rest after an event
  void touch(Model& m);
  void work(base::TimePoint now, Actions& out);
  void reconcile(Model& m, base::TimePoint now, Actions& out);
  void bury();
  Instance* find(base::InstanceId id);
  std::vector<Model*> models_in_order();

  // requests.cpp
  void arrive(const Arrival& a, base::TimePoint now, Actions& out);
  void answering(base::RequestId id, base::TimePoint now);
  void ended(base::RequestId id, base::TimePoint now, Actions& out);
  void failed(base::RequestId id, RequestFailure failure, base::TimePoint now, Actions& out);
  void dispatch(Request& r, Instance& i, bool waited, base::TimePoint now, Actions& out);
  void dispatch_queue(Model& m, base::TimePoint now, Actions& out);
  void offer_idle_room(base::TimePoint now);
  void release(Request& r, base::TimePoint now, Actions& out);

  // refusals.cpp
  void refuse(Request& r, Refuse::Why why, std::string message, base::Duration retry_after, Actions& out);
  void refuse_all(Model& m, Refuse::Why why, const std::string& message, base::Duration retry_after, Actions& out);
  void refuse_overdue(Model& m, base::TimePoint now, Actions& out);
  base::Duration retry_after(const Model& m, base::TimePoint now) const;

  // instances.cpp
  void start(Device& d, const Device::Claim& claim, base::TimePoint now, Actions& out);
  void drain_instance(Instance& i, Instance::Drain why, std::string reason, base::TimePoint now, Actions& out);
  void stop(Instance& i, base::TimePoint now, Actions& out);
  void revive(Instance& i, base::TimePoint now);
  void leave_usable(Instance& i);
  void ready(const wire::InstanceReady& e, base::TimePoint now, Actions& out);
  void down(const wire::InstanceDown& e, base::TimePoint now, Actions& out);
  void gone(Instance& i, base::TimePoint now, Actions& out);
  void outdated(base::InstanceId id, const std::string& reason, base::TimePoint now, Actions& out);

  // failures.cpp
  void start_failed(Model& m, Instance& i, base::TimePoint now, Actions& out);
  void back_off(Model& m, const Instance& i, base::TimePoint now);
  bool settled(const Instance& i, base::TimePoint now) const;
  static void succeeded(Model& m);

  // autoscale.cpp
  std::uint32_t desired(const Model& m) const;
  std::uint32_t missing(const Model& m, base::TimePoint now) const;
  void stop_idle(Model& m, base::TimePoint now, Actions& out);
  void scale_down(Model& m, base::TimePoint now, Actions& out);
  void revive_scaled_down(Model& m, base::TimePoint now);
  void drop_surplus_claims(Model& m, base::TimePoint now, Actions& out);
  base::TimePoint wake_at(Model& m, base::TimePoint now) const;

  // placement.cpp
  void settle(base::TimePoint now, Actions& out);
  void try_place(Model& m, base::TimePoint now, Actions& out);
  void refuse_hopeless(Model& m, base::TimePoint now, Actions& out);
  Offer offer(Device& d, const Model& m, base::TimePoint now) const;
  void accept(const Offer& o, Model& m, base::TimePoint now, Actions& out);
  void fund(Device& d, base::TimePoint now, Actions& out);
  std::uint64_t lasting(const Device& d, base::TimePoint now) const;
  void revive_evicted(base::TimePoint now);
  void cancel_claim(Model& m, Device& d, base::TimePoint now, Actions& out);
  void drop_claims(Model& m, base::TimePoint now, Actions& out);
  void drop_stuck_claims(Model& m, base::TimePoint now, Actions& out);
  bool overdue(const Instance& i, base::TimePoint now) const;
  std::vector<Candidate> candidates(const Device& d, const Model& m, base::TimePoint now) const;

  // turns.cpp
  void join_waiters(Model& m, base::TimePoint now);
  void leave_waiters(Model& m);
  bool entitled(const Model& m) const;
  base::Duration turn(const Model& m) const;
  base::TimePoint evictable_at(const Instance& i, const Model& challenger) const;
  std::uint64_t pinned_by_others(const Device& d, const Model& m) const;
  void pin(Model& m, base::TimePoint now);

  // capacity.cpp
  std::uint64_t kept_for_others(const Device& d, const Model* except) const;
  bool can_ever_fit(const Device& d, const Model& m) const;
  std::string why_never(const Model& m) const;
  base::Status can_ever_run(const spec::ModelSpec& spec) const;

  // models.cpp
  void joined(const wire::NodeHello& hello, base::TimePoint now, Actions& out);
  void deployed(const spec::ModelSpec& spec, base::TimePoint now, Actions& out);
  void removed(const base::ModelName& name, base::TimePoint now, Actions& out);
  void stopped(const base::ModelName& name, bool kill, base::TimePoint now, Actions& out);
  void drain(base::TimePoint now, Actions& out);
  void end_instances(Model& m, Instance::Drain why, const std::string& reason, base::TimePoint now, Actions& out);
};

}  // namespace thaw::control
