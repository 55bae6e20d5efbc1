#include "node/sandbox/uid_slots.h"

#include <fmt/format.h>

namespace thaw::node {

base::Result<std::uint32_t> UidSlots::take() {
  const std::lock_guard lock(mutex_);
  for (std::uint32_t slot = 0; slot < kMax; ++slot)
    if (used_.insert(slot).second) return slot;
  return base::Error{base::ErrorKind::exhausted, fmt::format("cannot make a sandbox: all {} are in use", kMax)};
}

void UidSlots::give_back(std::uint32_t slot) {
  const std::lock_guard lock(mutex_);
  used_.erase(slot);
}

}  // namespace thaw::node
