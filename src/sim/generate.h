#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.h"
#include "sim/trace.h"

namespace thaw::sim {

/// Requests that nobody made. Every model is a renewal process of its own whose gaps are gamma distributed: cv 1 is a
/// Poisson process, more is bursty. Rates follow a Zipf law over the models, and rise and fall with the day.
struct Synthetic {
  std::uint32_t requests = 10'000;  ///< about so many
  std::uint32_t models = 100;
  base::Duration span = std::chrono::hours(1);
  double cv = 1.0;                    ///< coefficient of variation of the gaps, 0.1 to 20
  double zipf = 1.0;                  ///< exponent, 0 to 5
  double diurnal = 0.0;               ///< rate * (1 + diurnal * sin(2 pi t / 24 h)), 0 to 1
  std::uint32_t input_tokens = 1000;  ///< mean; gamma distributed with a CV of 1
  std::uint32_t output_tokens = 200;  ///< the same
  base::Duration duration{};          ///< mean of the same; not 0: durations instead of tokens
  std::uint64_t seed = 1;
};

Trace generate(const Synthetic& synthetic);

/// "requests=100000,models=1000,span=24h,cv=4,zipf=1.1,diurnal=0.5,input=1000,output=200,seed=7": each key may be left
/// out.
base::Result<Synthetic> parse_synthetic(std::string_view text, std::uint64_t default_seed);

}  // namespace thaw::sim
