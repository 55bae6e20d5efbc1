#include "sim/host_memory.h"

#include <algorithm>

namespace thaw::sim {

void HostMemory::give_back(base::TimePoint now) {
  for (; free_bytes_ > 0 && next_ <= now; next_ += kPause) free_bytes_ -= std::min(free_bytes_, part_bytes_);
}

void HostMemory::freed(std::uint64_t bytes, base::TimePoint now) {
  if (part_bytes_ == 0 || bytes == 0) return;
  give_back(now);
  if (free_bytes_ == 0) next_ = std::max(next_, now + kPause);
  free_bytes_ += bytes;
}

std::uint64_t HostMemory::take(std::uint64_t bytes, base::TimePoint now) {
  if (part_bytes_ == 0) return 0;
  give_back(now);
  const std::uint64_t there = std::min(bytes, free_bytes_);
  free_bytes_ -= there;
  return bytes - there;
}

}  // namespace thaw::sim
