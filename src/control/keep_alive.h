#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/time.h"

/// What to do with a device while its replica is idle (the server's scaling.idle: auto). To hold it costs device time;
/// to give it back and take it again costs device time, too, and the next request waits. Which is less depends on when
/// that request comes: ski rental, with a forecast. Pure.
namespace thaw::control {

/// How long pauses were, in bins of a quarter of an octave from 0.125 s to two days, as the hybrid histogram of Shahrad
/// et al. ("Serverless in the Wild", ATC 2020) keeps them a function, but with bins that grow: pauses between tokens
/// and between days fit. Old pauses fade: beyond kMemory of them all count half.
class PauseHistogram {
 public:
  static constexpr std::size_t kBins = 84;
  static constexpr float kMemory = 256;

  void note(base::Duration pause);
  [[nodiscard]] float total() const { return total_; }
  [[nodiscard]] float count(std::size_t bin) const { return counts_[bin]; }
  static double lower_s(std::size_t bin);  ///< where the bin begins
  static double upper_s(std::size_t bin);  ///< ... and ends
  static double middle_s(std::size_t bin);

 private:
  std::array<float, kBins> counts_{};
  float total_ = 0;
};

/// Seconds of a device's time that one is ready to give for a second that a request need not wait.
constexpr double kDeviceSecondsPerDelaySecond = 0.5;
/// So many pauses must be known before they are believed.
constexpr float kPausesToBelieve = 8;
/// What following the forecast may cost beyond what the reactive rule costs, as a share of that (see Forecaster).
constexpr double kForecastMayLose = 0.1;

/// What a model's transitions take.
struct PauseCosts {
  base::Duration down{}, up{};

  /// What giving the device back and taking it again costs, in seconds of holding it: down + up + up *
  /// kDeviceSecondsPerDelaySecond.
  [[nodiscard]] base::Duration break_even() const;
};

/// For one pause, counted from its begin: the device is kept for `keep` and given back then. With a pre-wake window the
/// replica is up again from `from` until `until`.
struct PausePlan {
  base::Duration keep{};
  base::Duration from{}, until{};  ///< both 0: nothing is woken ahead

  [[nodiscard]] bool prewakes() const { return until > base::Duration::zero(); }
};

/// What a pause of that length costs under the plan, in seconds of holding the device: those held, those of going down
/// and up, and kDeviceSecondsPerDelaySecond for each that the next request waits.
double cost_of_pause_s(const PausePlan& plan, base::Duration pause, const PauseCosts& costs);

/// Without a forecast: kept for the break-even, so a pause costs at most twice what it would with the future known (ski
/// rental: Karlin et al. 1988).
PausePlan reactive_plan(const PauseCosts& costs);

/// The plan for which the pauses known would have cost least: any keep up to kLongestKeep break-evens, 0 included, and
/// a pre-wake window where one pays. Loses to the reactive plan at most kLongestKeep - 1 break-evens in a pause.
PausePlan forecast_plan(const PauseHistogram& pauses, const PauseCosts& costs);
constexpr int kLongestKeep = 3;

/// Follows the forecast as long as that was worth it. It accounts, pause by pause, for what its plans cost and what the
/// reactive plan would have; a forecast is followed only while what they lost is no more than kForecastMayLose of the
/// latter. So, for every sequence of pauses,
///
///     cost <= (1 + kForecastMayLose) * cost of the reactive plan + (kLongestKeep - 1) * break-even
///
/// and that also from any later moment on, because what was won is remembered only up to kRemembered break-evens (those
/// are added then).
class Forecaster {
 public:
  static constexpr double kRemembered = 8;

  /// `like_others`: pauses of models that are as new as this one; used until kPausesToBelieve of its own are known.
  [[nodiscard]] PausePlan plan(const PauseHistogram& like_others, const PauseCosts& costs) const;
  /// A pause is over that was planned so. `costs` without an `up`: it was not planned at all, and is only learnt.
  void note(base::Duration pause, const PausePlan& planned, const PauseCosts& costs);
  [[nodiscard]] const PauseHistogram& pauses() const { return pauses_; }
  [[nodiscard]] bool trusted() const { return lead_s_ >= 0; }

 private:
  PauseHistogram pauses_;
  double lead_s_ = 0;  ///< what the plans followed won, and may lose
};

/// Which of two forecasts costs less, of late: that by a model's past pauses, or that by how much comes to all models at present (tide.h).
/// Both are accounted for at every pause, whichever was followed.
class Preference {
 public:
  void note(double by_pauses_s, double by_tide_s);
  [[nodiscard]] bool known() const { return known_ >= kPausesToBelieve; }
  [[nodiscard]] bool tide() const { return lead_s_ > 0; }

 private:
  double lead_s_ = 0;  ///< of the tide; fades
  float known_ = 0;    ///< pauses, at most kPausesToBelieve
};

}  // namespace thaw::control
