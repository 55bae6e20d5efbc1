#pragma once

#include <cstdint>

#include "base/time.h"

namespace thaw::sim {

/// The problem: a virtual machine gives memory that is free back to its host (Linux's free page reporting), and gets it
/// anew when it is touched, page by page, which takes longer than reading a file into it. So it matters how much memory
/// was in use a moment ago. This knows how much free memory the machine still has: two seconds after some became free a
/// first part of it goes back, and every two seconds another, until all has (mm/page_reporting.c).
class HostMemory {
 public:
  static constexpr base::Duration kPause = base::Seconds(2);  ///< PAGE_REPORTING_DELAY

  /// `part_bytes`: that go back at a time; 0: none ever does, the memory is the machine's own.
  explicit HostMemory(std::uint64_t part_bytes) : part_bytes_(part_bytes) {}

  void freed(std::uint64_t bytes, base::TimePoint now);
  /// Of these bytes, which somebody needs now, those that the machine does not have and gets from its host.
  std::uint64_t take(std::uint64_t bytes, base::TimePoint now);

 private:
  void give_back(base::TimePoint now);

  std::uint64_t part_bytes_, free_bytes_ = 0;
  base::TimePoint next_{};  ///< when the next part goes back; while any is free
};

}  // namespace thaw::sim
