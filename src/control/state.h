#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "control/account.h"
#include "control/instance.h"
#include "control/model.h"
#include "control/node.h"
#include "control/offer.h"
#include "control/priority.h"
#include "control/request.h"
#include "control/scheduler.h"

/// The scheduler's books, private to src/control. Every event changes them and marks the models it concerns; work() then
/// brings those models, and whoever waits for room, to rest. Nothing here ever walks over all models on an event.
namespace thaw::control {

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
  std::optional<Refuse> refusal_at_the_door(const Model& m, base::RequestId request, base::TimePoint now) const;
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
  RestQuestion rest_question(const Instance& i) const;
  RestAnswer resting_place(const Instance& i) const;
  bool would_rest_in_standby(const Instance& i) const;
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
  static bool beyond_quota(const Tenant& t, const Offer& o);
  void refuse_beyond_quota(Model& m, const Offer& o, Actions& out);
  void make_quota_room(const Model& m, const Offer& o, base::TimePoint now, Actions& out);
  void keep_to_quota(Tenant& t, double more, const Model* for_whom, base::TimePoint now, Actions& out);

  // explain.cpp
  Explanation explain(const base::ModelName& name, const base::TenantName& asker, std::optional<spec::Priority> asked, base::TimePoint now);
  void explain_wait(Explanation& e, Model& m, Request& r, base::TimePoint now);
  void explain_way_up(Explanation& e, Model& m, const Offer& o, base::TimePoint now) const;

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
