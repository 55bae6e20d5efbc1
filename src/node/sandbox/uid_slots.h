#pragma once

#include <cstdint>
#include <mutex>
#include <set>

#include "base/result.h"

namespace thaw::node {

/// Hands out ranges of host uids (bundle.h, kUidRange), so that no two sandboxes of whatever kind share one. Any
/// thread.
class UidSlots {
 public:
  static constexpr std::uint32_t kMax = 4'096;

  /// Fails with exhausted when all are in use.
  base::Result<std::uint32_t> take();
  void give_back(std::uint32_t slot);

 private:
  std::mutex mutex_;
  std::set<std::uint32_t> used_;
};

}  // namespace thaw::node
