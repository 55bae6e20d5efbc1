#pragma once

#include <array>
#include <cstdint>
#include <vector>

/// Random numbers that are the same on every machine and with every compiler: the standard library's distributions are
/// not.
namespace thaw::sim {

/// xoshiro256** (Blackman and Vigna, "Scrambled Linear Pseudorandom Number Generators", 2018), seeded by SplitMix64.
class Random {
 public:
  explicit Random(std::uint64_t seed);

  std::uint64_t next();
  double uniform();                      ///< in [0, 1), 53 bits
  std::uint64_t below(std::uint64_t n);  ///< in [0, n); n > 0. Biased by less than n / 2^64
  double exponential(double mean);
  double normal();  ///< standard; Box and Muller
  /// Marsaglia and Tsang, "A Simple Method for Generating Gamma Variables" (2000). shape > 0; the mean is shape *
  /// scale.
  double gamma(double shape, double scale);

 private:
  std::array<std::uint64_t, 4> state_{};
};

/// SplitMix64's mixing of one value: a seed for each of many things, from one.
std::uint64_t mix(std::uint64_t value);

/// Draws 0..n-1 with probability proportional to 1 / (rank + 1)^exponent. Memory: n numbers.
class Zipf {
 public:
  Zipf(std::uint32_t n, double exponent);  ///< n > 0, exponent >= 0 (0: all alike)
  std::uint32_t draw(Random& random) const;
  [[nodiscard]] double share(std::uint32_t rank) const;

 private:
  std::vector<double> cumulative_;
};

}  // namespace thaw::sim
