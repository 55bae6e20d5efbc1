#pragma once

#include <map>
#include <unordered_map>
#include <vector>

#include "control/host_cache.h"
#include "control/scheduler.h"
#include "sim/policy.h"
#include "sim/world.h"

namespace thaw::sim {

/// thaw's own scheduler (control::Scheduler), and on machines whose device is the CPU its books of the page cache
/// (control::HostCache), fed as the daemon feeds them: the events that src/controller would hand them, and their
/// actions carried out on the simulated fleet. Decides nothing by itself.
class ThawPolicy : public Policy {
 public:
  struct Ways {
    bool standby = true;
    bool images = true;
    bool automatic_idle = true;  ///< the server's scaling.idle: auto
    bool forecasts = true;       ///< of when the next request comes
  };
  explicit ThawPolicy(Ways ways) : ways_(ways), scheduler_(policy_of(ways)) {}

  void begin(World& world) override;
  void arrived(World& world, RequestIndex request) override;
  void first_token(World& world, RequestIndex request) override;
  void ended(World& world, RequestIndex request) override;
  void ready(World& world, base::InstanceId instance, wire::Way way) override;
  void weights_read(World& world, base::InstanceId instance) override;
  void in_standby(World& world, base::InstanceId instance) override;
  void imaged(World& world, base::InstanceId instance) override;
  void gone(World& world, base::InstanceId instance) override;
  [[nodiscard]] base::TimePoint next_tick() const override;
  void tick(World& world) override;

 private:
  static control::Policy policy_of(const Ways& ways) {
    control::Policy policy;
    policy.automatic_idle = ways.automatic_idle;
    policy.forecasts = ways.forecasts;
    return policy;
  }

  struct Making {
    ModelIndex model;
    base::ImageId image;
  };

  [[nodiscard]] wire::NodeHello hello(const World& world, std::uint32_t node, DeviceIndex first_device) const;
  [[nodiscard]] spec::ModelSpec spec_of(const World& world, ModelIndex model) const;
  /// An event for the page cache's books, and what they order.
  template <typename Event>
  void keep(World& world, const Event& event);
  void obey(World& world, std::uint32_t node);
  void answer(World& world, std::uint32_t node, const control::CacheAction& action);
  void update_reserved(World& world);
  /// Devices of a node by their ids, which are their numbers over the whole fleet.
  template <typename Command>
  static Devices devices_of(const Command& command);
  void carry_out(World& world);
  void say_tenants(World& world);
  void deploy(World& world);
  void join(World& world);
  [[nodiscard]] bool lists_images(const World& world) const;
  [[nodiscard]] ModelIndex model_of(const base::ImageId& image) const;

  Ways ways_;
  control::Scheduler scheduler_;
  std::map<std::uint32_t, control::HostCache> caches_;  ///< by node, where the device is the CPU
  control::CacheActions cache_actions_;                 ///< reused
  control::Actions actions_;                            ///< reused
  std::unordered_map<base::ModelName, ModelIndex> models_;
  std::unordered_map<base::InstanceId, ModelIndex> instances_;
  std::unordered_map<base::InstanceId, Making> making_;
  std::unordered_map<base::ImageId, ModelIndex> made_;  ///< images that were not there from the first
  std::vector<wire::ImageGone> dropped_;                ///< still to be said to the scheduler
};

}  // namespace thaw::sim
