#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/time.h"
#include "control/scheduler.h"
#include "spec/model_spec.h"

/// How one revision of a model follows another. Pure, like all of control/: who calls looks at the views of both and
/// carries out what is answered (controller/rollouts.h).
///
///     deploy ──► starting ──► (ready) ──► serving, and the old one drains        nobody waits, or percent is 100
///                   │  │
///                   │  └────► (ready) ──► split: percent of the requests ──► serving | given up, as somebody decides
///                   └───────► failed: not ready in time, or its starts fail. The old one has served all the while
namespace thaw::control {

/// What a deploy does to the revision that serves.
enum class Succession {
  in_place,   ///< the same engines go on, with other bounds
  at_once,    ///< nothing runs of the old one: the next request starts the new one
  displaced,  ///< both find no room side by side: the old one drains first
  beside,     ///< the new one becomes ready while the old one serves
};
const char* to_string(Succession succession);

/// Whether a running engine of `a` cannot serve as one of `b`.
[[nodiscard]] bool engine_differs(const spec::ModelSpec& a, const spec::ModelSpec& b);

/// How one who deploys wants it to take over.
struct RolloutSettings {
  std::uint32_t percent =
      100;  ///< of requests that the new one gets once it is ready, 1 to 100; below 100 until somebody decides
  base::Duration timeout =
      base::Seconds(600);  ///< until the new engines are ready, 1 s to 24 h; then the old ones stay
};

/// Revisions of a model that are kept, to be gone back to.
inline constexpr std::uint32_t kKeptRevisions = 10;

/// `shares`: it is to get a part of the requests only. `old_view`: nullptr when the scheduler knows nothing of it.
/// `devices`: all.
[[nodiscard]] Succession succession(const spec::ModelSpec& old_spec, const spec::ModelSpec& new_spec, bool shares,
                                    const ModelView* old_view, const std::vector<DeviceView>& devices);

enum class RolloutStage { none, starting, split };
const char* to_string(RolloutStage stage);

enum class RolloutStep { wait, promote, share, fail };

/// Starts of the new revision that may fail before it is given up.
inline constexpr std::uint64_t kRolloutStartFailures = 3;

/// What is to be done of a candidate in `stage`, of which requests are to get `percent` once it is ready.
[[nodiscard]] RolloutStep next_step(RolloutStage stage, std::uint32_t percent, const ModelView& candidate,
                                    base::TimePoint deadline, base::TimePoint now);

/// Whether nothing of it is left that would be lost with it: no request waits or runs.
[[nodiscard]] bool has_drained(const ModelView& retired);

/// Whether a request goes to the candidate. `key`: equal for requests that belong together; over many keys, `percent`
/// of 100 do, and who does at 10 does at 20.
[[nodiscard]] bool goes_to_candidate(std::uint64_t key, std::uint32_t percent);

/// The oldest of `numbers` (ascending) that are more than `keep`, but never one of `in_use`.
[[nodiscard]] std::vector<std::uint32_t> surplus_revisions(const std::vector<std::uint32_t>& numbers,
                                                           const std::vector<std::uint32_t>& in_use,
                                                           std::uint32_t keep);

}  // namespace thaw::control
