#pragma once

#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "control/scheduler.h"

namespace thaw::control::test {

/// The test's own random numbers (splitmix64): the same on every machine.
class Dice {
 public:
  explicit Dice(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next();
  std::uint64_t below(std::uint64_t n) { return next() % n; }
  bool chance(unsigned percent) { return below(100) < percent; }
  base::Duration between(base::Duration low, base::Duration high);

 private:
  std::uint64_t state_;
};

/// A fleet, its clients and its operators, played against one Scheduler on a simulated clock: nodes that start, fail, hang,
/// crash and answer late; clients that leave; operators that deploy, remove and stop. Keeps its own books and throws a
/// std::runtime_error as soon as the scheduler breaks a promise. The same seed gives the same history.
class World {
 public:
  /// What happens beside the ordinary.
  struct Mix {
    bool gangs = false;   ///< models that take several devices, on machines that have more
    bool shares = false;  ///< priorities, and tenants with weights and limits
    bool explains = false;  ///< before each request it is asked what would become of it, and that must come about
  };
  explicit World(std::uint64_t seed, const Policy& policy = {}) : World(seed, policy, Mix()) {}
  World(std::uint64_t seed, const Policy& policy, const Mix& mix);

  /// Lives through one history: `arrivals` requests among faults and operators, then quiet until everything is at rest.
  void live(unsigned arrivals);

  [[nodiscard]] std::uint64_t fingerprint() const { return fingerprint_; }  ///< of all actions and their times
  [[nodiscard]] unsigned served() const { return served_; }
  [[nodiscard]] unsigned refused() const { return refused_; }
  [[nodiscard]] unsigned woken() const { return woken_; }
  [[nodiscard]] unsigned restored() const { return restored_; }
  [[nodiscard]] unsigned images_made() const { return images_made_; }
  [[nodiscard]] unsigned gangs_begun() const { return gangs_begun_; }
  /// Explanations of each prospect that came about, by its name.
  [[nodiscard]] const std::map<std::string, unsigned>& explained() const { return explained_; }

 private:
  struct Request {
    enum class State { waiting, running } state = State::waiting;
    base::ModelName model;
    base::InstanceId instance;
    unsigned attempt = 0;
    bool retried = false;
    bool answering = false;
    base::TimePoint deadline{};  ///< of the present wait
  };
  struct Instance {
    base::ModelName model;
    std::string device;                ///< the first one
    std::vector<std::string> devices;  ///< all of them
    std::uint64_t bytes = 0;           ///< on each of them
    std::uint32_t target = 1;
    std::uint64_t full_bytes = 0, host_bytes = 0, disk_bytes = 0;
    enum class State { up, freezing, standby, waking, imaging } state = State::up;  ///< `up` also while it starts
    unsigned turn = 0;       ///< changes with every order: answers to earlier ones are void
    base::ImageId image;     ///< that is made of it
    bool alive = true;       ///< its process
    bool said_ready = false, said_down = false, stop_asked = false;
    std::set<base::RequestId> in_flight;
    base::RequestId alone;   ///< a retried request that has not answered yet
  };

  void at(base::Duration delay, std::function<void()> act);
  void step();            ///< the next event or tick
  void call(const std::string& name, const std::function<void(Actions&)>& event);
  void note(const std::string& line);
  template <typename Id>
  static std::string text(Id id) { return std::to_string(id.value()); }
  void carry_out(const Actions& actions);
  void check() const;
  void check_rest() const;
  void check_accounts() const;
  void account();       ///< what instances hold until now
  [[noreturn]] void broken(const std::string& what) const;

  // world_node.cpp: what nodes do
  void on(const Start& action);
  void on(const Stop& action);
  void on(const Freeze& action);
  void on(const Wake& action);
  void on(const Snapshot& action);
  void on(const Drop& action);
  void die(base::InstanceId id, wire::DownReason reason, bool tell);
  void leave(base::InstanceId id);
  void put_on(Instance& i, const base::NodeName& node, const base::DeviceId& first, const std::vector<base::DeviceId>& all, const spec::ModelSpec& spec);
  // world_tiers.cpp: standby and images
  void answer(base::InstanceId id, base::Duration delay, std::function<void(Instance&)> act);
  void lie(base::InstanceId id);
  void say_ready(base::InstanceId id, wire::Way way, const std::string& fell_back);
  void say_standby(base::InstanceId id, Instance& i);
  void say_taken(base::InstanceId id, std::uint64_t bytes);
  void lose_image(const base::ImageId& id, const std::string& reason);
  void equip(wire::NodeHello& hello);
  void operate_tiers(const std::string& name);
  void check_tiers() const;
  // world_clients.cpp: what clients and operators do
  void on(const Dispatch& action);
  void on(const Refuse& action);
  void arrive();
  void came_about(const Explanation& e, base::RequestId id, const base::ModelName& name, const Actions& actions);
  void finish(base::RequestId id, unsigned attempt);
  void fail(base::RequestId id, unsigned attempt, RequestFailure how);
  void forget(base::RequestId id);
  void take_off(base::RequestId id);
  void operate();
  void deploy(const std::string& name);
  void hello(unsigned node);

  Mix mix_;
  Dice dice_;
  Scheduler scheduler_;
  base::TimePoint now_{};
  std::multimap<base::TimePoint, std::function<void()>> events_;
  std::map<std::string, wire::DeviceInfo> devices_;  ///< by "node/device"
  struct Image {
    std::string node;
    base::ModelName model;
    std::uint64_t bytes = 0;
    bool dropped = false;    ///< its end was ordered
  };
  std::map<base::ImageId, Image> images_;            ///< until gone
  std::map<base::ModelName, spec::ModelSpec> models_;
  std::map<base::RequestId, Request> requests_;
  std::map<base::InstanceId, Instance> instances_;   ///< until gone
  std::uint64_t next_request_ = 1;
  bool quiet_ = false;
  bool killing_ = false;
  bool tick_may_be_due_ = false;
  unsigned served_ = 0, refused_ = 0, woken_ = 0, restored_ = 0, images_made_ = 0, gangs_begun_ = 0;
  std::uint64_t fingerprint_ = 0;
  std::map<std::string, unsigned> explained_;
  double held_device_s_ = 0;         ///< by all instances together, in seconds of whole devices
  base::TimePoint accounted_at_{};
  std::deque<std::string> history_;  ///< the last events and actions, for the report of a broken promise
};

}  // namespace thaw::control::test
