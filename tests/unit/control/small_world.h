#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "control/scheduler.h"

namespace thaw::control::test {

/// A fleet so small that everything that can happen to it can be tried: one node, one device with room for one replica, two models (with `gang`: two
/// devices, and one of the models takes both). Time stands
/// still but for ticks. Throws a std::runtime_error, with the history, as soon as the scheduler breaks a promise.
///
/// To be copied it is played again: a path of choices leads to the same state every time.
class SmallWorld {
 public:
  /// What may happen next. Each is one event, or one answer of the node.
  struct Choice {
    enum class What {
      request, finish, fail, leave,                                      // clients and the gateway
      ready, restored, fell_back, standby, standby_in_full, still_ready, freeze_broke, taken, not_taken, down, vanish, lie,  // the node
      corrupt, tick, freeze, wake, snapshot, stop,                       // the rest of the world
    } what;
    std::uint64_t id = 0;  ///< of a request, an instance or a model
  };
  struct Setting {
    spec::DeviceKind kind = spec::DeviceKind::cuda;
    unsigned requests = 3;      ///< that may arrive, of each model
    bool operators = false;     ///< people freeze, wake, stop and take snapshots
    bool lies = false;          ///< the node says what is not so
    bool shortlist = false;     ///< the scheduler decides as in a fleet of thousands
    bool gang = false;          ///< a second device, and model a takes both
  };

  explicit SmallWorld(const Setting& setting);

  [[nodiscard]] std::vector<Choice> choices() const;
  void apply(const Choice& choice);
  /// Everything that decides what can follow, as text: two worlds with equal keys are taken to be the same.
  [[nodiscard]] std::string key() const;
  /// From here on the node does what it is told (or, with `dead_node`, nothing at all but end what is stopped), clients wait for their
  /// answers, and nobody else comes. Throws unless every request is answered and nothing is left but images.
  void finish(bool dead_node);

 private:
  enum class At { starting, ready, freezing, standby, waking, imaging, ending };
  struct Instance {
    base::ModelName model;
    At at = At::starting;
    std::uint64_t bytes = 0;  ///< on each of its devices
    std::uint64_t disk_bytes = 0;
    std::vector<base::DeviceId> devices;
    base::ImageId image;
    bool heard_ready = false;
    std::vector<base::RequestId> in_flight;
  };
  struct Request {
    base::ModelName model;
    base::InstanceId instance;  ///< 0: it waits
  };

  void deploy(const std::string& name, spec::Mode standby, spec::Mode snapshot);
  void call(const std::string& name, const std::function<void()>& event);
  void carry_out();
  void on(const Start& a);
  void on(const Stop& a);
  void on(const Dispatch& a);
  void on(const Refuse& a);
  void on(const Freeze& a);
  void on(const Wake& a);
  void on(const Snapshot& a);
  void on(const Drop& a);
  void node_says(const Choice& choice, base::InstanceId id);
  void lie_about(base::InstanceId id);
  void end(base::InstanceId id);
  void check() const;
  [[noreturn]] void broken(const std::string& what) const;

  Setting setting_;
  Scheduler scheduler_;
  Actions out_;
  base::TimePoint now_ = base::TimePoint{} + base::Seconds(1000);
  std::map<base::InstanceId, Instance> instances_;
  std::map<base::RequestId, Request> requests_;
  std::map<base::ImageId, std::uint64_t> images_;
  std::map<base::ModelName, unsigned> arrivals_left_;
  std::uint64_t next_request_ = 1;
  std::vector<std::string> history_;
};

std::string to_string(const SmallWorld::Choice& choice);

}  // namespace thaw::control::test
