#pragma once

#include <cstdint>

/// What tests ask the emulated driver for, besides what the real one has. Found by dlsym in the same library, so it is
/// of this process.
struct ThawEmulatorCounts {
  std::uint64_t copies;  ///< to devices, since the reset
  std::uint64_t copied_bytes;
  std::uint64_t pageable_copies;  ///< of them from memory that was not pinned
  std::uint64_t device_bytes;     ///< allocated now
  std::uint64_t pinned_bytes;
  std::uint64_t contexts;  ///< retained now
  std::uint64_t streams;
  std::uint64_t events;
};

using thawEmulatorCounts_t = void(ThawEmulatorCounts* into);
/// Counts copies and injected failures from here, and forgets the errors of contexts, which last for ever otherwise.
using thawEmulatorReset_t = void();
