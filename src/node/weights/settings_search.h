#pragma once

#include <functional>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "node/weights/direct_reader.h"

/// The problem: a disk's best chunk size and depth are to be found in a second or two, while its rate moves by a third
/// from one moment to the next. Candidates therefore take turns, in many short rounds, and medians count.
/// No I/O and no clock here: both are passed in.
namespace thaw::node {

/// The most memory that a candidate needs.
constexpr std::uint64_t kMaxSearchedMemoryBytes = 32ULL << 20;

/// What is tried, from little memory to much.
std::vector<ReadSettings> settings_candidates();

struct SettingsSearch {
  /// Reads for a moment with these settings: bytes/s.
  std::function<base::Result<double>(const ReadSettings&)> sample;
  std::function<base::TimePoint()> now;
  base::Duration budget{};  ///< no sample but the first begins after it
};

struct FoundSettings {
  ReadSettings settings;
  double bytes_per_s = 0;  ///< median
};

/// Of the settings that come within 3% of the fastest, those nearest to the defaults. Fails when a sample fails.
base::Result<FoundSettings> search_settings(const SettingsSearch& search);

}  // namespace thaw::node
