#pragma once

#include <cstddef>
#include <cstdint>

#include "base/ids.h"
#include "base/time.h"
#include "control/demand.h"

/// Which of a model's replicas serves a request, which of them is left out for a while because it is worse than the others, and how many requests
/// may be tried again. Pure.
namespace thaw::control {

struct Instance;
struct Model;

/// What a request asks for that some replica may know already: equal for requests that begin alike. 0: nothing is known of it.
using Affinity = std::uint64_t;

/// No replica gets more than this, times the mean, for the sake of affinity (consistent hashing with bounded loads: Mirrokni, Thorup and
/// Zadimoghaddam, SODA 2018).
constexpr double kLoadBound = 1.25;
/// Up to so many replicas the least loaded is looked for; among more, the better of two (Mitzenmacher 2001): the same cost however many there are.
constexpr std::size_t kLookAtAllReplicas = 8;

/// A replica with a free slot for the request, or null. With an affinity: of those below the bound, the one that ranks highest for it (rendezvous
/// hashing: Thaler and Ravishankar 1998; a replica that comes or goes moves only its own share). Else the least loaded. `keep_least`: the least
/// loaded one is left to empty itself for a retried request that must run alone: its load never grows, so that request's turn comes however busy
/// the model is. `first_choice` becomes whether affinity was followed as far as it goes. With an `adapter`, replicas that have it loaded rank before all others
/// (below the same bound: where they have more than their part to do, another one loads it).
Instance* pick_slot(const Model& m, Affinity affinity, base::RequestId request, bool keep_least, base::TimePoint now, bool* first_choice = nullptr,
                    const base::ModelName& adapter = {});
/// What begins alike goes to the same replica only where it is for the same adapter, too; and all that is for one adapter belongs together somewhat.
Affinity affinity_with(Affinity affinity, const base::ModelName& adapter);
/// One that serves nobody, or null.
Instance* pick_empty(const Model& m, base::TimePoint now);

/// What one replica's answers say of it, compared with the others of its model (outlier detection, as Envoy has it).
struct Health {
  std::uint32_t strikes = 0;        ///< bad answers in a row
  std::uint32_t good = 0;           ///< good ones in a row
  std::uint32_t ejections = 0;      ///< since it was last well
  base::TimePoint ejected_until{};  ///< gets no new requests until then
  RunningMean first_byte;           ///< from dispatch to the answer's first byte

  [[nodiscard]] bool ejected(base::TimePoint now) const { return ejected_until > now; }
};

/// How many requests of a model may be tried again. A replica that dies takes what it serves with it, and all of that is tried again; but when every
/// try fails, tries must not add to the load. A debt that every retry makes larger by one; a tenth of a request pays with each that comes, and time
/// pays, too.
class RetryBudget {
 public:
  static constexpr double kShare = 0.1;                         ///< of requests
  static constexpr double kLeast = 10;                          ///< may be retried at once, always
  static constexpr base::Duration kForgets = base::Seconds(10); ///< in this time the whole allowance comes back

  void earn() { debt_ = debt_ > kShare ? debt_ - kShare : 0; }
  /// Whether one more may be retried; then it counts. `peak`: the most that was under way of late.
  bool take(base::TimePoint now, std::uint32_t peak);

 private:
  double debt_ = 0;
  base::TimePoint paid_at_{};
};

}  // namespace thaw::control
