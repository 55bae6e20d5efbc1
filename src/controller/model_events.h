#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/time.h"
#include "control/cause.h"

namespace thaw::controller {

/// One thing that happened to a model's replicas, and why.
struct ModelEvent {
  enum class Kind : std::uint8_t {
    deployed,
    starting, restoring, waking, ready,   ///< the ways up
    freezing, standby, freeze_failed,
    stopping,                             ///< ordered; an eviction is one by the rule "evicted"
    failed,                               ///< ended without being told to
    gone,                                 ///< nothing of it is left
    imaging, image_made, image_failed,
    takeover,         ///< a revision begins to take over from the one that serves
    took_over,        ///< ... and serves
    takeover_failed,  ///< ... or was not ready in time, or could not start: the other one goes on serving
    given_up,         ///< ... or somebody, or a newer deploy, ended it
    split,            ///< two revisions share the requests, or share them in another way
    drained,          ///< the one before answered its last request and ends
    loaded, load_failed,                  ///< an adapter, by the engine of a replica of its base
  };
  Kind kind = Kind::deployed;
  std::uint64_t seq = 0;          ///< rises over all models; begins anew with the server
  std::int64_t unix_ms = 0;
  base::InstanceId replica{};     ///< none: it is about the model
  base::NodeName node{};
  std::string device{};           ///< "cuda0+cuda1" where it takes several
  std::string reason{};           ///< in words
  control::Cause cause{};
  std::optional<base::Duration> took{};  ///< of what ended by this: a way up, a freeze, an image
};
const char* to_string(ModelEvent::Kind kind);  ///< "deployed", "starting", ...

/// What happened to each model of late: why it started, stopped, was evicted, rested, woke, failed. In memory alone, so it begins with the server
/// (the audit log has what people did, for ever). Bounded: the last kKept of each deployed model. Loop thread only.
class ModelEvents {
 public:
  static constexpr std::size_t kKept = 128;
  static constexpr std::size_t kMaxReasonBytes = 500;

  /// Gives it its number; what is longer than kMaxReasonBytes is cut.
  void note(const base::ModelName& model, ModelEvent event);
  /// Nobody can ask for them any more.
  void forget(const base::ModelName& model) { by_model_.erase(model); }
  /// Those behind `after`, the oldest first.
  [[nodiscard]] std::vector<ModelEvent> since(const base::ModelName& model, std::uint64_t after) const;

 private:
  std::uint64_t last_ = 0;
  std::map<base::ModelName, std::vector<ModelEvent>> by_model_;
};

}  // namespace thaw::controller
