#include "sim/random.h"

#include <algorithm>
#include <cassert>
#include <cmath>

namespace thaw::sim {

namespace {

constexpr std::uint64_t kGolden = 0x9e3779b97f4a7c15ULL;

std::uint64_t rotate_left(std::uint64_t x, unsigned k) {
  return (x << k) | (x >> (64 - k));
}

}  // namespace

std::uint64_t mix(std::uint64_t value) {
  std::uint64_t z = value + kGolden;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

Random::Random(std::uint64_t seed) {
  for (std::size_t n = 0; n < state_.size(); ++n) state_[n] = mix(seed + n * kGolden);
}

std::uint64_t Random::next() {
  auto& s = state_;
  const std::uint64_t result = rotate_left(s[1] * 5, 7) * 9;
  const std::uint64_t t = s[1] << 17;
  s[2] ^= s[0];
  s[3] ^= s[1];
  s[1] ^= s[2];
  s[0] ^= s[3];
  s[2] ^= t;
  s[3] = rotate_left(s[3], 45);
  return result;
}

double Random::uniform() {
  return static_cast<double>(next() >> 11) * 0x1.0p-53;
}

std::uint64_t Random::below(std::uint64_t n) {
  assert(n > 0);
  return next() % n;
}

double Random::exponential(double mean) {
  return -std::log1p(-uniform()) * mean;
}

double Random::normal() {
  constexpr double kTwoPi = 6.283185307179586;
  const double radius = std::sqrt(-2.0 * std::log1p(-uniform()));
  return radius * std::cos(kTwoPi * uniform());
}

double Random::gamma(double shape, double scale) {
  assert(shape > 0);
  if (shape < 1) {  // boosted: gamma(a) = gamma(a + 1) * U^(1/a)
    const double boost = std::pow(1.0 - uniform(), 1.0 / shape);
    return gamma(shape + 1, scale) * boost;
  }
  const double d = shape - 1.0 / 3.0, c = 1.0 / std::sqrt(9.0 * d);
  for (;;) {
    const double x = normal();
    const double root = 1.0 + c * x;
    if (root <= 0) continue;
    const double v = root * root * root;
    if (std::log1p(-uniform()) < 0.5 * x * x + d - d * v + d * std::log(v)) return d * v * scale;
  }
}

Zipf::Zipf(std::uint32_t n, double exponent) {
  assert(n > 0);
  cumulative_.reserve(n);
  double sum = 0;
  for (std::uint32_t rank = 0; rank < n; ++rank) cumulative_.push_back(sum += std::pow(rank + 1.0, -exponent));
  for (double& c : cumulative_) c /= sum;
}

std::uint32_t Zipf::draw(Random& random) const {
  const auto found = std::upper_bound(cumulative_.begin(), cumulative_.end(), random.uniform());
  return static_cast<std::uint32_t>(
      std::min<std::ptrdiff_t>(found - cumulative_.begin(), static_cast<std::ptrdiff_t>(cumulative_.size()) - 1));
}

double Zipf::share(std::uint32_t rank) const {
  return cumulative_[rank] - (rank == 0 ? 0 : cumulative_[rank - 1]);
}

}  // namespace thaw::sim
