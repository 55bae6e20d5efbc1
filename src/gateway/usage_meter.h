#pragma once

#include <cstdint>
#include <memory>

#include "controller/replica.h"
#include "store/usage_journal.h"

namespace thaw::gateway {

/// One request's row in the usage journal, from its admission on, and the device time that it holds. Loop thread. Its destructor closes the row as
/// failed if nobody has: a row never stays open longer than its request.
class UsageMeter {
 public:
  /// `journal` nullptr: nothing is recorded.
  UsageMeter(store::UsageJournal* journal, const store::UsageOpening& opening);
  ~UsageMeter();
  UsageMeter(const UsageMeter&) = delete;
  UsageMeter& operator=(const UsageMeter&) = delete;

  /// It goes to `replica` now; `waited`: for its way up, which is charged to the first request that waited for it.
  void dispatched(const std::shared_ptr<controller::Replica>& replica, bool waited);
  /// The replica is done with it, or has failed.
  void released();
  /// `closing` gets the device times, and the row is complete.
  void close(store::UsageClosing closing);

 private:
  store::UsageJournal* journal_;
  store::UsageJournal::Slot slot_;
  std::shared_ptr<controller::Replica> replica_;  ///< while it serves the request
  double mark_ = 0;
  base::Duration service_{};
  base::Duration start_{};
};

}  // namespace thaw::gateway
