#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"

namespace thaw::node::pipeline {

/// A rectangle of bytes in the ring and where it goes.
struct Copy {
  const std::byte* from = nullptr;
  std::uint64_t to = 0;  ///< address of the host's or the device's memory
  std::uint64_t row_bytes = 0;
  std::uint64_t rows = 1;
  std::uint64_t from_stride = 0;
  std::uint64_t to_stride = 0;
};

/// Carries bytes from the ring to one device, or to the host's memory, while its caller goes on. One thread.
class Copier {
 public:
  virtual ~Copier() = default;
  /// Begins copies out of a slot of the ring, whose memory they read until done() says otherwise. Errors: the driver's.
  virtual base::Status begin(unsigned slot, std::span<const Copy> copies) = 0;
  /// Whether all that was begun for the slot has arrived. Slots finish about in the order in which they began.
  virtual base::Result<bool> done(unsigned slot) = 0;
  /// Waits until nothing reads the ring any more. An error: that cannot be known, and the ring's memory is lost to it.
  virtual base::Status settle() = 0;
};

}  // namespace thaw::node::pipeline
