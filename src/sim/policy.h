#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "sim/trace.h"
#include "wire/messages.h"

namespace thaw::sim {

class World;

/// Who decides: thaw's own scheduler, or a rival. Told of everything that happens, one thing at a time; orders the
/// world (world.h) from within these calls. Nothing of what it orders happens before the call has returned.
class Policy {
 public:
  Policy() = default;
  Policy(const Policy&) = delete;
  Policy& operator=(const Policy&) = delete;
  virtual ~Policy() = default;

  virtual void begin(World& world) = 0;  ///< before the first request; time 0
  virtual void arrived(World& world,
                       RequestIndex request) = 0;  ///< must be answered by exactly one dispatch or refusal, at any time
  virtual void first_token(World& /*world*/, RequestIndex /*request*/) {}
  virtual void ended(World& world, RequestIndex request) = 0;
  virtual void ready(World& world, base::InstanceId instance, wire::Way way) = 0;
  virtual void weights_read(World& /*world*/, base::InstanceId /*instance*/) {
  }  ///< of one that was ready before they were there
  virtual void in_standby(World& /*world*/, base::InstanceId /*instance*/) {}
  virtual void imaged(World& /*world*/, base::InstanceId /*instance*/) {}
  virtual void gone(World& world, base::InstanceId instance) = 0;
  [[nodiscard]] virtual base::TimePoint next_tick() const { return base::never(); }
  virtual void tick(World& /*world*/) {}
};

/// A policy by its name, with what it stands for.
struct PolicyInfo {
  std::string name;
  std::string describes;             ///< one line: what it does, with its parameters
  std::vector<std::string> sources;  ///< where that is published
  bool rival = true;                 ///< false: thaw's own
};

const std::vector<PolicyInfo>& policies();                     ///< thaw's first
std::unique_ptr<Policy> make_policy(const std::string& name);  ///< null: there is none of that name
/// "thaw,knative" or "all" -> names; an error names the wrong one and the nearest right one.
base::Result<std::vector<std::string>> parse_policies(const std::string& text);

}  // namespace thaw::sim
