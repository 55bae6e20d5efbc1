#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>

#include "node/engine/engine.h"
#include "node/tiers/driver.h"
#include "node/tiers/touched.h"
#include "node/weights/page_fill.h"
#include "node/weights/page_out.h"

namespace thaw::node {

/// Whether engines can be frozen here: makes an empty control group below `label`'s parent to find out. `cgroups` null:
/// no.
Capability freezer_capability(const CgroupHost* cgroups, const std::string& label);

/// What the freezer driver asks of the kernel and of an engine, one by one, so that a test can make each of them fail.
struct FreezerSteps {
  std::function<base::Status(const Freezer&, base::TimePoint, const std::stop_token&)> freeze;
  std::function<base::Status(const Freezer&, base::TimePoint)> thaw;
  std::function<base::Result<PageOut>(const std::vector<std::string>&, const std::vector<StoppedInstance>&)> page_out;
  std::function<base::Result<Readiness>(const std::string& socket_path, base::Duration timeout)> probe;

  static FreezerSteps real();
};

/// Standby on a CPU, whose device memory is the host's: the engine's processes are stopped by their control group, and
/// the weights that they map leave the page cache. What cannot leave is held and told as such: anonymous memory (KV
/// cache, repacked weights; swap is not assumed), and weights that a running replica maps as well.
///
///     down: freeze ─► page out ─► measure                up: fill the page cache (in the background) ─► thaw ─► health
///     check
///       failed: thaw, health check ─► ready                failed: freeze again ─► standby
///       that too: lost                                     that too: lost
///
/// An engine that keeps copies of its weights (llama.cpp repacks quantised ones) needs next to nothing of the file:
/// what it touched between a wake and the next freezing is looked at, and where that was little, only that is read
/// again. The fill goes on after up() has returned: the engine computes on the first layers while the last ones come
/// in. Connections to the engine's Unix socket survive: a frozen process keeps its descriptors, and what was sent to it
/// is read later. A frozen process costs no CPU time; its timers have run out when it wakes, so it may close
/// connections that idled past its own timeout.
class FreezerDriver : public TierDriver {
 public:
  /// `cgroups`: null where no groups can be made: then it works for nobody. `label`: as in CgroupHost::parent_path.
  /// `filler` must outlive the driver.
  FreezerDriver(std::shared_ptr<const CgroupHost> cgroups, const std::string& label, PageFiller& filler,
                FreezerSteps steps = FreezerSteps::real());

  [[nodiscard]] std::string_view name() const override { return "freezer"; }
  [[nodiscard]] const Capability& capability() const override { return capability_; }
  [[nodiscard]] Keeps keeps() const override { return Keeps::process; }
  [[nodiscard]] base::Status accepts(const TierSubject& subject) const override;
  [[nodiscard]] TierEstimate estimate(const TierSubject& subject) const override;
  [[nodiscard]] TierOutcome down(const TierSubject& subject, const TierCall& call) override;
  [[nodiscard]] TierOutcome up(const TierSubject& subject, const TierCall& call) override;
  base::Status discard(const TierSubject& subject) override;

 private:
  struct Resting {
    std::vector<std::string> files;
    StoppedInstance stopped;
  };

  base::Result<PageOut> page_out_weights(const TierSubject& subject, base::TimePoint until);
  base::Result<PageOut> page_out_once(const TierSubject& subject);
  base::Status back_to_ready(const TierSubject& subject);
  base::Status back_to_standby(const TierSubject& subject, const TierCall& call);
  void rest(const TierSubject& subject);
  void read_weights(const TierSubject& subject);
  [[nodiscard]] bool needs_little(const TierSubject& subject, const std::vector<FileRange>& touched) const;
  void note_touched(const TierSubject& subject);
  void forget(base::InstanceId instance);

  PageFiller& filler_;
  FreezerSteps steps_;
  Capability capability_;

  std::mutex mutex_;
  std::map<base::InstanceId, Resting> resting_;
  std::map<base::InstanceId, FillHandle> fills_;
  /// Of those that were woken: what of their files they touched from one wake to the next freezing; absent: nobody
  /// knows yet.
  std::map<base::InstanceId, std::optional<std::vector<FileRange>>> touched_;
  /// Held while pages are taken from resting instances: until then none of them is killed, lest a pid mean another
  /// process.
  std::shared_mutex paging_;
};

}  // namespace thaw::node
