#pragma once

#include <cmath>
#include <cstdint>

#include <boost/json/value.hpp>

namespace thaw::spec {

/// A number that prints as people write it: 2, not 2E0.
inline boost::json::value json_number(double value) {
  constexpr double kExact = 1e15;  // whole numbers below are exact
  if (std::floor(value) == value && std::fabs(value) < kExact) return static_cast<std::int64_t>(value);
  return value;
}

}  // namespace thaw::spec
