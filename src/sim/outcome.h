#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/time.h"
#include "sim/trace.h"

namespace thaw::sim {

/// By what a request was served.
enum class Served : std::uint8_t {
  not_served,
  ready,  ///< a replica that was up
  wake,   ///< one that came up for it, or while it waited: out of standby
  restore,
  start,
};
const char* to_string(Served served);

/// Delays of some requests.
struct Delays {
  std::uint64_t requests = 0, answered = 0;
  double p50_s = 0, p90_s = 0, p99_s = 0, max_s = 0;  ///< of the answered ones (nearest rank)
  double within_5s = 0;  ///< share of all requests, the refused ones included
};

/// How some of the requests fared: a tenant's, or those of a priority.
struct GroupOutcome {
  std::string name;
  Delays delays;
  /// Device memory held, times time, by replicas whose last request was of this tenant (before the first: its first one's). 0 for a priority.
  double held_device_s = 0;
};

/// What one policy made of one trace on one fleet.
struct Outcome {
  static constexpr std::size_t kSlices = 240;  ///< of the time, for plots
  static constexpr float kRefused = -1.0F;

  std::string policy;
  std::uint32_t devices = 0;
  base::Duration span{};       ///< from the first arrival to the last answer
  std::vector<float> delay_s;  ///< of each request, in the trace's order: to its first token, or to its begin where a
                               ///< trace has durations; kRefused
  std::vector<Served> served;  ///< of each request, in the trace's order
  std::uint64_t answered = 0, refused = 0;
  std::uint64_t cold = 0;  ///< answered after waiting for a replica to come up

  double held_device_s = 0;  ///< share of a device's memory that instances held, times time
  double used_device_s = 0;  ///< devices on which somebody held anything, times time
  double busy_device_s = 0;  ///< devices that computed, times time
  /// held_device_s by what those who held it did.
  struct {
    double rising = 0;     ///< coming up, or an image was made of it
    double answering = 0;
    double idle = 0;       ///< ready, and nothing was under way; in standby, what stays on the device
    double falling = 0;    ///< being frozen or stopped
  } held_by;
  double standby_gib_s = 0;  ///< host memory held by what was in standby
  /// The machines' memory that was held: standby, weights in the page cache, on a CPU also instances' own; times time,
  /// and at most.
  double memory_byte_s = 0;
  std::uint64_t memory_peak_bytes = 0;
  std::uint32_t peak_devices = 0;    ///< most devices on which somebody held anything at one time
  std::vector<float> held_by_slice;  ///< devices' worth of memory held, on average

  std::uint64_t starts = 0, restores = 0, wakes = 0, freezes = 0, stops = 0, images = 0;
  std::uint64_t events = 0;             ///< that were simulated
  std::vector<GroupOutcome> tenants;     ///< empty where there is one
  std::vector<GroupOutcome> priorities;  ///< empty where all requests have the same
  std::vector<std::string> violations;  ///< what no policy may do; at most kMaxViolations are kept
  std::uint64_t violated = 0;
  static constexpr std::size_t kMaxViolations = 10;

  // Derived by summarise().
  double p50_s = 0, p90_s = 0, p99_s = 0, max_s = 0;
  double within_5s = 0;  ///< share of all requests, the refused ones included

  [[nodiscard]] double device_hours() const { return held_device_s / 3600; }
  [[nodiscard]] double used_device_hours() const { return used_device_s / 3600; }
  /// USD, of the share of devices that was held.
  [[nodiscard]] double cost_per_1000(double device_hour_price) const;
};

constexpr double kDelayGoal_s = 5.0;

Delays summarise(std::vector<float> delays);

/// Its own percentiles.
void summarise(Outcome& outcome);

}  // namespace thaw::sim
