#pragma once

#include <cstdint>
#include <queue>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/ids.h"
#include "base/time.h"
#include "sim/compute.h"
#include "sim/fleet.h"
#include "sim/host_memory.h"
#include "sim/link.h"
#include "sim/meter.h"
#include "sim/outcome.h"
#include "sim/page_cache.h"
#include "sim/policy.h"
#include "sim/tenants.h"
#include "sim/trace.h"
#include "wire/messages.h"

/// The fleet, the requests and the time of one simulation. What a policy orders takes as long as the fleet's costs, its
/// disks and its buses say; what no policy may do (more memory held than there is, a request sent to what is not ready)
/// is noted as a violation.
namespace thaw::sim {

/// Lifecycle: made for one run() of one policy. Neither owns the fleet, the trace nor the policy; they must outlive it.
/// The same four give the same outcome, bit for bit.
class World {
 public:
  World(const Fleet& fleet, const Trace& trace, Policy& policy);

  Outcome run();
  /// After run(): until nothing at all is going to happen any more, or `most` has passed. True: it is quiet.
  bool run_until_quiet(base::Duration most);

  // --- what a policy may know
  [[nodiscard]] base::TimePoint now() const { return now_; }
  [[nodiscard]] const Fleet& fleet() const { return fleet_; }
  [[nodiscard]] const Trace& trace() const { return trace_; }
  [[nodiscard]] const Tenants& tenants() const { return tenants_; }
  [[nodiscard]] std::uint32_t device_count() const { return static_cast<std::uint32_t>(devices_.size()); }
  [[nodiscard]] std::uint32_t node_count() const { return static_cast<std::uint32_t>(nodes_.size()); }
  [[nodiscard]] std::uint32_t node_of(DeviceIndex device) const { return devices_[device].node; }
  [[nodiscard]] const NodeShape& shape_of(std::uint32_t node) const { return *nodes_[node].shape; }
  [[nodiscard]] const ModelClass& class_of(ModelIndex model) const { return *classes_[model]; }
  [[nodiscard]] bool has_image(std::uint32_t node, ModelIndex model) const;
  /// From now to ready by the best way from nothing, given what loads at present: what a scheduler that measures its
  /// loads would estimate.
  [[nodiscard]] base::Duration estimate(ModelIndex model, const Devices& devices) const;
  /// Of one that has just come up by start or restore: weights read from the disk or there already, and how long the
  /// disk took.
  [[nodiscard]] wire::Phase loaded(base::InstanceId id) const;
  /// False: it came up before its weights did, as on a CPU, where they are read beside the start; weights_read()
  /// follows.
  [[nodiscard]] bool weights_there(base::InstanceId id) const;
  [[nodiscard]] std::uint64_t cached_bytes(std::uint32_t node, ModelIndex model) const {
    return nodes_[node].cache.resident(model);
  }
  [[nodiscard]] std::uint64_t held_bytes(DeviceIndex device) const { return devices_[device].held_bytes; }
  /// Of its device, by one in standby on a CPU.
  [[nodiscard]] std::uint64_t rest_bytes(base::InstanceId id) const { return instances_.at(id).device_held; }
  [[nodiscard]] std::size_t instance_count() const { return instances_.size(); }  ///< in any state, in standby as well

  // --- what a policy may order. Ids are the policy's, never 0, never used twice.
  /// Holds the model's device bytes from now until it is gone, an equal share on each device. `way`: start or restore.
  void start(base::InstanceId id, ModelIndex model, const Devices& devices, wire::Way way);
  void start_ready(base::InstanceId id, ModelIndex model,
                   const Devices& devices);  ///< from begin() only: it was there before
  void make_image(base::InstanceId id, ModelIndex model, const Devices& devices);  ///< imaged(), then gone()
  void freeze(base::InstanceId id);
  void wake(base::InstanceId id);
  void stop(base::InstanceId id);  ///< whatever it does at present; gone() follows
  void drop_image(std::uint32_t node, ModelIndex model);
  void keep_cached(std::uint32_t node, ModelIndex model,
                   std::uint64_t bytes);  ///< the rest of its weights leaves the page cache
  void dispatch(RequestIndex request, base::InstanceId id, bool cold);
  void refuse(RequestIndex request);

 private:
  enum class State { rising, imaging, ready, freezing, standby, waking, stopping };
  struct HeldUp {
    RequestIndex request = 0;
    std::uint32_t tokens = 0;  ///< after the first
    bool prompt_done = false;
  };
  struct Instance {
    ModelIndex model = 0;
    DeviceIndex device = 0;  ///< the first one; it computes there
    Devices devices;         ///< all of them
    State state = State::rising;
    wire::Way way = wire::Way::start;
    std::uint64_t host_bytes = 0;
    DeviceCompute::Slot slot = 0;
    bool has_slot = false;
    bool disk_done = false;                    ///< of the way it is on
    std::uint32_t buses_left = 0;              ///< its devices whose bytes are still on the bus
    std::uint64_t device_held = 0;             ///< of each of its devices
    std::uint64_t own_bytes = 0;               ///< on a CPU: what the kernel counts for it, beside its weights
    std::uint64_t longest_tokens = 0;          ///< of the requests that it had
    base::Duration first_answer{};             ///< what its next answer takes longer, being the first
    std::vector<RequestIndex> requests;        ///< in flight
    base::TimePoint counted_until{};           ///< its device time is in the outcome up to then
    std::optional<std::uint32_t> tenant;       ///< whose request it last got
    double unasked_s = 0;                      ///< held before its first one
    std::vector<HeldUp> held_up;               ///< of them those that are answered once its weights are there
    std::uint64_t way_number = 0;              ///< events of an earlier way are stale
    double missing_bytes = 0;                  ///< of its weights, not in the page cache when it began to come up
    double late_bytes = 0;                     ///< of those, for which the machine had no memory any more
    base::TimePoint moves_since{}, read_at{};  ///< the bytes of the way it is on; when those of the disk were there
    double planned_disk = 0,
           planned_bus = 0;  ///< bytes that it is going to move once what is fixed is done; over each bus
  };
  struct Device {
    std::uint32_t node = 0;
    std::uint64_t budget_bytes = 0, held_bytes = 0;
    DeviceCompute compute;
    std::vector<base::InstanceId> by_slot;  ///< of compute; on a CPU
  };
  struct Node {
    const NodeShape* shape = nullptr;
    std::uint64_t standby_bytes = 0;
    std::uint64_t own_bytes = 0;                             ///< of instances on its CPU
    std::uint64_t noted_bytes = 0;                           ///< of memory, as the meter knows it
    std::unordered_map<ModelIndex, std::uint32_t> mapped{};  ///< on a CPU: instances that compute with these weights
    PageCache cache;
    HostMemory memory;
    std::unordered_set<ModelIndex> images;  ///< that are there; where the fleet has images_ready: that are not
  };
  struct Event {
    enum class Kind : std::uint8_t { link, compute, instance };
    base::TimePoint at;
    std::uint64_t order = 0;  ///< among equals the one that was planned first
    Kind kind = Kind::link;
    std::uint64_t what = 0;        ///< link, device or instance
    std::uint64_t generation = 0;  ///< stale when it is another by then
    bool operator>(const Event& other) const { return at != other.at ? at > other.at : order > other.order; }
  };
  struct Running {
    base::InstanceId instance;
    bool answered = false;  ///< dispatched or refused
    bool first_token = false;
  };

  // links: one disk for each node, then one bus for each device
  [[nodiscard]] std::uint64_t disk_of(std::uint32_t node) const { return node; }
  [[nodiscard]] std::uint64_t bus_of(DeviceIndex device) const { return nodes_.size() + device; }
  void plan_link(std::uint64_t link);
  void plan_compute(DeviceIndex device);
  void plan_instance(base::InstanceId id, const Instance& instance, base::Duration after);

  [[nodiscard]] bool on_cpu(const Instance& instance) const { return cpu(devices_[instance.device].node); }
  [[nodiscard]] bool cpu(std::uint32_t node) const { return nodes_[node].shape->device_kind == spec::DeviceKind::cpu; }

  Instance* find(base::InstanceId id);
  Instance& create(base::InstanceId id, ModelIndex model, const Devices& devices, State state);
  void hold(const Instance& instance, std::int64_t bytes);
  void hold(Device& device, std::int64_t bytes);
  void hold_standby(Node& node, std::int64_t bytes);
  void note_memory(Node& node);
  void own(Instance& instance, std::uint64_t bytes);
  void map_weights(Instance& instance, bool map);
  void add_slot(base::InstanceId id, Instance& instance);
  void rise_on_cpu(base::InstanceId id, Instance& instance);
  void rest_on_cpu(Instance& instance);
  void weights_are_there(base::InstanceId id, Instance& instance);
  bool prompt_done(Instance& instance, RequestIndex request);
  void go_on(Instance& instance, const HeldUp& held);
  void begin_way(base::InstanceId id, Instance& instance, base::Duration fixed, double disk_bytes, double bus_bytes);
  void forget_plan(Instance& instance);
  void move(base::InstanceId id, Instance& instance, double disk_bytes, double bus_bytes);
  void cancel_way(base::InstanceId id, Instance& instance);
  void settle(base::InstanceId id, Instance& instance);
  void become_ready(base::InstanceId id, Instance& instance);
  void link_done(std::uint64_t link);
  void fixed_done(base::InstanceId id);
  void compute_due(DeviceIndex device);
  void first_token(RequestIndex request);
  void request_ended(RequestIndex request);
  void vanish(base::InstanceId id);
  void arrive();
  bool step(base::TimePoint until);
  void violation(const std::string& what);
  void count(Instance& instance);
  void count_all();
  [[nodiscard]] double disk_bytes(std::uint32_t node, ModelIndex model, wire::Way way) const;
  [[nodiscard]] double bus_bytes(ModelIndex model, wire::Way way) const;  ///< over each of its devices' buses

  const Fleet& fleet_;
  const Trace& trace_;
  Policy& policy_;
  base::TimePoint now_{};
  std::vector<const ModelClass*> classes_;  ///< by model
  std::vector<Node> nodes_;
  std::vector<Device> devices_;
  std::vector<Link> links_;
  std::vector<double> planned_bytes_;  ///< by link: of ways that have not come so far yet
  std::unordered_map<base::InstanceId, Instance> instances_;
  std::vector<Running> running_;  ///< by request
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  std::uint64_t planned_ = 0;
  std::size_t next_arrival_ = 0;
  std::uint64_t open_ = 0;  ///< arrived and not ended
  bool begun_ = false;
  Meter meter_;
  const Tenants tenants_;
  std::vector<double> held_by_tenant_s_;
  Outcome outcome_;
};

}  // namespace thaw::sim
