#pragma once

#include <cstdint>
#include <string>

#include "base/time.h"

/// Where an idle model rests and by which way it comes up again: one decision each, over measured numbers alone. Nothing is assumed of a
/// driver or an engine; what is not known is tried, a bounded number of times, and then the faster way is taken.
namespace thaw::control {

/// How long something takes, learnt from how long it took: an exponentially weighted mean and variance (each new value weighs 0.3; T. Finch,
/// "Incremental calculation of weighted mean and variance", 2009). Follows change; 0 before the first value.
class CostEstimate {
 public:
  void note(base::Duration value);
  [[nodiscard]] base::Duration mean() const { return mean_; }
  [[nodiscard]] base::Duration deviation() const;  ///< standard deviation
  /// What it takes when nobody else wants the same disk or bus: the least of late. Grows towards what is seen by a
  /// sixteenth of the difference.
  [[nodiscard]] base::Duration quickest() const { return quickest_; }
  [[nodiscard]] std::uint32_t samples() const { return samples_; }
  [[nodiscard]] bool known() const { return samples_ > 0; }

 private:
  base::Duration mean_{}, quickest_{};
  double variance_ns2_ = 0;
  std::uint32_t samples_ = 0;
};

/// What one model's transitions cost when they were chosen, failures and falls to a slower way included.
struct Costs {
  CostEstimate start;     ///< from nothing to ready
  CostEstimate restore;   ///< from an image to ready
  CostEstimate wake;      ///< from standby to ready
  CostEstimate freeze;    ///< from ready to standby
};

/// How often a way that was never gone is tried before its cost counts as known.
constexpr std::uint32_t kTrials = 2;
/// A way must be better than the one in use by this share before it is preferred to it, so that noise does not flip decisions.
constexpr double kHysteresis = 0.1;
/// The way that lost is tried again once in so many times: costs change.
constexpr std::uint32_t kTryAgainEvery = 64;

/// Seconds that resting in the cheaper state is expected to save, per second and byte held: arrivals per second * seconds saved at each / bytes.
/// What is worth least by it goes first when room is needed.
double worth_per_byte(double arrivals_per_s, base::Duration saved, std::uint64_t bytes);

struct RestQuestion {
  const Costs* costs = nullptr;
  bool image = false;              ///< an image is there to restore from
  std::uint32_t descents = 0;      ///< how often this was asked for the model so far
  std::uint32_t failures = 0;      ///< freezes and wakes that failed since one last worked
  bool rests_in_standby = false;   ///< the last answer
  base::Duration read_again{};     ///< a wake's first answer waits for this as well: weights that standby takes out of memory and a stop leaves there
};

struct RestAnswer {
  bool standby = false;            ///< else: it is stopped
  bool prefers_standby = false;    ///< the same, but for trials
  std::string why;                 ///< for people: "wakes in 20 ms, starts in 1.2 s"
};

/// Standby or nothing, for a replica that has been idle for long enough. The next request waits for a wake (and for weights to be read again) in the first case and for the better of
/// restore and start in the second; standby is chosen if it is the shorter wait. How much that is worth against the bytes it holds is asked
/// only when somebody else wants them (worth_per_byte).
RestAnswer choose_rest(const RestQuestion& question);
/// The same without words: whoever looks for room asks it of every idle replica on the way.
bool rests_in_standby(const RestQuestion& question);

/// What a wake saves, for people: "wakes in 20 ms, starts in 1.2 s", "wakes in 4 ms and reads its weights again in 0.5 s, starts in 1.2 s".
std::string why_wake(const Costs& costs, bool image, base::Duration read_again = {});

struct WayQuestion {
  const Costs* costs = nullptr;
  std::uint32_t ascents = 0;       ///< starts and restores of this model so far
  bool restored_last = false;      ///< the way that is preferred at present
};

struct WayAnswer {
  bool restore = false;            ///< else: a start
  bool prefers_restore = false;    ///< the same, but for trials
  std::string why;
};

/// Restore or start, for a model that has an image and no replica in standby.
WayAnswer choose_way(const WayQuestion& question);

/// Whether an image of a model is worth making at all: `fastest_restore` is the fastest that this node ever restored anything (0: never did).
/// A model that starts faster than that is not worth the disk and the trial.
bool snapshot_worthwhile(const Costs& costs, base::Duration fastest_restore);

}  // namespace thaw::control
