#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <unordered_map>
#include <vector>

#include "sim/kpa.h"
#include "sim/policy.h"
#include "sim/world.h"

namespace thaw::sim {

/// What tells one rival from another. Their mechanisms are thaw's: every one of them comes up by the fastest way there
/// is from nothing.
struct RivalRules {
  enum class Replicas {
    fixed,    ///< as many as the busiest moment needs, for ever
    one,      ///< one while it is asked for
    demand,   ///< as many as requests at the moment need
    windows,  ///< as Knative's autoscaler says
  };
  enum class Place {
    first_fit,  ///< the first device with room
    most_free,  ///< the one with most room
    fastest,    ///< where the model is up first
  };
  Replicas replicas = Replicas::one;
  Place place = Place::first_fit;
  bool evicts = true;                        ///< the longest idle make room for who needs it
  bool alone = false;                        ///< one model on a device at a time
  std::optional<base::Duration> keep_alive;  ///< idle for so long: stopped. Absent: kept until evicted
  bool keep_alive_as_loading = false;        ///< ... for as long as coming up took
  std::uint32_t max_replicas = 16;
  std::size_t max_queue = 512;  ///< of a model; more is refused
  base::Duration queue_timeout = base::Seconds(120);
};

/// A platform that answers every request with a replica that has a slot free, and begins replicas by the rules. Event
/// by event it touches one model, or a device's instances.
class RivalPolicy : public Policy {
 public:
  explicit RivalPolicy(RivalRules rules) : rules_(rules) {}

  void begin(World& world) override;
  void arrived(World& world, RequestIndex request) override;
  void ended(World& world, RequestIndex request) override;
  void ready(World& world, base::InstanceId instance, wire::Way way) override;
  void gone(World& world, base::InstanceId instance) override;
  [[nodiscard]] base::TimePoint next_tick() const override;
  void tick(World& world) override;

 private:
  struct Waiting {
    RequestIndex request;
    base::TimePoint since;
    bool cold;
  };
  struct Model {
    std::deque<Waiting> queue;
    std::vector<base::InstanceId> ready;  ///< that serve
    std::uint32_t rising = 0;             ///< coming up, or decided on and waiting for room that was promised
    std::uint32_t in_flight = 0;
    bool waits = false;        ///< in waiting_
    std::uint32_t wanted = 0;  ///< by the windows
    std::unique_ptr<KpaWindows> windows;
  };
  struct Instance {
    ModelIndex model = 0;
    Devices devices;
    bool ready = false, stopping = false;
    std::uint32_t in_flight = 0;
    base::TimePoint begun{}, idle_since{};
    base::Duration loading{};
  };
  struct Promise {
    ModelIndex model = 0;
    Devices devices;
  };
  struct Device {
    std::uint64_t free_bytes = 0;  ///< neither held nor promised
    std::set<base::InstanceId> instances;
    std::deque<std::uint64_t> promised;  ///< replicas that begin when enough has returned, in the same order on all devices of a gang
    std::uint64_t promised_bytes = 0;  ///< set aside for those
    std::uint64_t owed_bytes = 0;      ///< that they still need: the next that return are theirs
    std::uint64_t leaving_bytes = 0;   ///< that return beyond those
  };
  struct Choice {
    Devices devices;
    std::vector<base::InstanceId> victims;
  };
  struct Scored {
    DeviceIndex device = 0;
    double score = 0;
    std::vector<base::InstanceId> victims;
  };

  void place_for_ever(World& world, ModelIndex model);
  void serve(World& world, ModelIndex model);
  void scale(World& world, ModelIndex model);
  [[nodiscard]] std::uint32_t desired(const World& world, ModelIndex model) const;
  bool place(World& world, ModelIndex model);
  [[nodiscard]] std::optional<Choice> choose(const World& world, ModelIndex model) const;
  [[nodiscard]] std::optional<std::vector<base::InstanceId>> victims_on(const World& world, DeviceIndex device,
                                                                        std::uint64_t bytes) const;
  [[nodiscard]] std::optional<Scored> look_at(const World& world, ModelIndex model, DeviceIndex device, bool evict) const;
  [[nodiscard]] std::optional<Choice> best(const World& world, ModelIndex model, bool evict) const;
  void begin_replica(World& world, ModelIndex model, const Devices& devices);
  void stop(World& world, base::InstanceId id);
  void fund(World& world, DeviceIndex device);
  void place_waiting(World& world);
  void wait_for_room(ModelIndex model);
  void note(World& world, ModelIndex model);
  void became_idle(World& world, base::InstanceId id);
  void expire(World& world);
  void stop_idle(World& world);
  void look_at_windows(World& world);

  RivalRules rules_;
  std::uint64_t last_id_ = 0;
  std::vector<Model> models_;
  std::vector<Device> devices_;
  std::unordered_map<std::uint64_t, Promise> promises_;
  std::uint64_t last_promise_ = 0;
  std::unordered_map<base::InstanceId, Instance> instances_;
  std::unordered_map<RequestIndex, base::InstanceId> serving_;
  std::deque<ModelIndex> waiting_;  ///< for room, in order
  std::set<std::pair<base::TimePoint, base::InstanceId>> idle_out_;
  std::set<std::pair<base::TimePoint, ModelIndex>> expires_;  ///< the oldest request in each model's queue
  std::set<ModelIndex> scaled_;                               ///< those with windows to look at
  base::TimePoint next_look_ = base::never();
};

}  // namespace thaw::sim
