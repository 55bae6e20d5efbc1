#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/time.h"

/// How long an idle replica keeps its device (the server's scaling.idle: auto). To hold it costs device time; to give it back and take it again costs
/// device time, too, and the next request waits. Which is less depends on when that request comes: ski rental. Pure.
namespace thaw::control {

/// How long a model's pauses were, in bins of half an octave from 0.25 s to two days, as the hybrid histogram of Shahrad et al. ("Serverless in
/// the Wild", ATC 2020) keeps them a function, but with bins that grow: pauses between tokens and between days fit. Old pauses fade: beyond
/// kMemory of them all count half.
class PauseHistogram {
 public:
  static constexpr std::size_t kBins = 40;
  static constexpr float kMemory = 256;

  void note(base::Duration pause);
  [[nodiscard]] float total() const { return total_; }
  [[nodiscard]] float count(std::size_t bin) const { return counts_[bin]; }
  static double upper_s(std::size_t bin);  ///< where the bin ends
  static double middle_s(std::size_t bin);

 private:
  std::array<float, kBins> counts_{};
  float total_ = 0;
};

/// Seconds of a device's time that one is ready to give for a second that a request need not wait.
constexpr double kDeviceSecondsPerDelaySecond = 1.0;
/// So many pauses must be known before they are believed.
constexpr float kPausesToBelieve = 8;

/// The break-even: what giving the device back and taking it again costs, in seconds of holding it. `down` and `up`: how long they take.
base::Duration break_even(base::Duration down, base::Duration up);

/// How long to keep the device: the length for which the pauses known cost least, between half the break-even and twice it; the break-even itself as
/// long as few are known. Kept for the break-even, a pause costs at most twice what it would with the future known (Karlin et al. 1988); within
/// these bounds at most three times, however wrong the histogram is (Purohit, Svitkina, Kumar, "Improving Online Algorithms via ML Predictions",
/// NeurIPS 2018: 1 + 1/lambda with lambda = 1/2).
base::Duration keep_alive(const PauseHistogram& pauses, base::Duration break_even);

}  // namespace thaw::control
