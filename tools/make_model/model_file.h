#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "base/result.h"
#include "make_model/shape.h"

namespace thaw::make_model {

struct Options {
  std::uint64_t size_bytes = 0;  ///< of the whole file; kMinSize_bytes to kMaxSize_bytes
  WeightType type = WeightType::f16;
  std::filesystem::path out;
  std::uint32_t context = 2048;  ///< training context in tokens, 32 to 1048576
  std::uint64_t seed = 0;
  std::string name;  ///< general.name; empty: from the size and the type
};

inline constexpr std::uint64_t kMinSize_bytes = 1'000'000;
inline constexpr std::uint64_t kMaxSize_bytes = 8ULL << 30;

struct Made {
  Shape shape;
  std::uint64_t file_bytes = 0;
  std::uint64_t weights = 0;  ///< number of values
};

/// Writes a GGUF file with random weights, at about the speed of the page cache. The file appears under its name when
/// it is whole: it is written beside it as "<out>.partial" and renamed, and a failure leaves neither. It has no holes.
/// Same options, same bytes. Errors: invalid for options out of range, conflict when another process writes the same
/// file, exhausted when the disk is too small (known before the first byte where the file system can tell), io
/// otherwise. Not synced to disk.
base::Result<Made> write_model(const Options& options);

}  // namespace thaw::make_model
