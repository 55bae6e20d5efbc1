#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "base/result.h"

namespace thaw::node {

/// Memory that direct reads may go to: aligned to huge pages, and in them where the kernel gives them, so that pinning
/// it is cheap. Owns the mapping.
class ReadMemory {
 public:
  /// Errors: io (there is no memory), invalid (0 bytes, or more than an address space has).
  static base::Result<ReadMemory> allocate(std::uint64_t bytes);

  ReadMemory(ReadMemory&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  ReadMemory& operator=(ReadMemory&&) = delete;
  ReadMemory(const ReadMemory&) = delete;
  ReadMemory& operator=(const ReadMemory&) = delete;
  ~ReadMemory();

  [[nodiscard]] std::span<std::byte> span() const { return bytes_; }

 private:
  explicit ReadMemory(std::span<std::byte> bytes) : bytes_(bytes) {}

  std::span<std::byte> bytes_;
};

}  // namespace thaw::node
