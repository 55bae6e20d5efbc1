#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/time.h"

namespace thaw::base {

/// "64MiB", "1.5GiB", "200MB", "4096" -> bytes. Ki/Mi/Gi/Ti are powers of 1024, k/M/G/T powers of 1000; the B is
/// optional (Kubernetes writes "64Mi"). Refuses negative, empty, unknown units and what does not fit 63 bits.
Result<std::uint64_t> parse_bytes(std::string_view text);

/// "5s", "300ms", "1m30s", "2h", "1.5s" -> duration. A bare number is refused: the unit is the point. Range 0 to 365 days.
Result<Duration> parse_duration(std::string_view text);

/// For people: 1536 -> "1.5KiB", 67108864 -> "64MiB". At most one decimal.
std::string format_bytes(std::uint64_t bytes);

/// For people: 1500 ms -> "1.5s", 90 s -> "1m30s", 250 us -> "250us". parse_duration reads it back, rounded.
std::string format_duration(Duration duration);

}  // namespace thaw::base
