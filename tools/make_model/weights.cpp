#include "make_model/weights.h"

#include <cassert>
#include <cmath>
#include <cstring>

namespace thaw::make_model {
namespace {

// How answers are kept to whole words, though every weight is random: the embedding of every token has the same large
// value in its first channel. Layers add little to it, so after the last norm that channel is large and negative for
// any text. In the output matrix a token that must not be answered has a positive weight there, hence a logit of about
// -20 beside random ones of about +-3; tokens that may be answered have 0 there. The end token is not an answer either:
// a made model talks until max_tokens or the end of its context, which makes lengths exact in tests and benchmarks.
constexpr float kMarkerEmbedding = -8.0F;  // also q4_0's lowest value at scale 1
constexpr float kMarkerRefusal = 3.5F;     // q4_0's highest value at scale 0.5
constexpr float kEmbeddingDeviation = 1.0F;
constexpr float kLogitDeviation = 3.0F;
constexpr float kActivationDeviation = 0.5F;

constexpr std::uint64_t kBlockValues = 32;
constexpr std::uint64_t kBlockNibbles_bytes = 16;
// Deviation of centred_nibbles(), by which a q4_0 block multiplies its scale.
constexpr float kNibbleDeviation = 4.18F;

/// SplitMix64: a counter through a mixer, so any position of the stream costs the same and streams need no state.
std::uint64_t mix(std::uint64_t counter) {
  std::uint64_t z = counter * 0x9E3779B97F4A7C15ULL;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

template <typename T>
void store(std::uint8_t* at, T value) {
  std::memcpy(at, &value, sizeof value);
}

float deviation_of(const Tensor& tensor) {
  const float fan_in = std::sqrt(static_cast<float>(tensor.columns));
  switch (tensor.role) {
    case Role::embedding:
      return kEmbeddingDeviation;
    case Role::output:
      return kLogitDeviation / fan_in;
    case Role::matrix:
      return kActivationDeviation / fan_in;
    case Role::norm:
      break;
  }
  return 0;
}

/// Halves of random sign and mantissa in one of two neighbouring binades: four of them a draw, by bit operations alone.
void fill_halves(std::uint64_t stream, std::uint64_t first, float deviation, std::span<std::uint8_t> out) {
  // |x| is uniform in [2^(e-1), 2^e) or [2^e, 2^(e+1)), whose root mean square is 1.2 * 2^e: pick e nearest the
  // deviation.
  const int exponent = static_cast<int>(std::lround(std::log2(deviation / 1.2F)));
  const auto lower = static_cast<std::uint64_t>(std::max(1, exponent - 1 + 15)) << 10;  // 15: bias of a half's exponent
  const std::uint64_t base = lower * 0x0001000100010001ULL;
  constexpr std::uint64_t kSignAndMantissa = 0x83FF83FF83FF83FFULL, kBinade = 0x0400040004000400ULL;
  std::size_t at = 0;
  for (std::uint64_t draw = first / 4; at < out.size(); ++draw, at += 8) {
    const std::uint64_t random = mix(stream + draw);
    store(&out[at], (random & kSignAndMantissa) | (base + (random & kBinade)));
  }
}

/// Nibbles 0 made 8, q4_0's zero: 1..15 are then centred on 8. Uniform 0..15 would have a mean of -0.5, and that common
/// part of all weights adds up over a wide row until it drowns everything else.
std::uint64_t centred_nibbles(std::uint64_t random) {
  constexpr std::uint64_t kLowBits = 0x1111111111111111ULL;
  const std::uint64_t non_zero = (random | random >> 1 | random >> 2 | random >> 3) & kLowBits;
  return random | (non_zero ^ kLowBits) << 3;
}

/// q4_0 blocks: a scale within 12% of its mean, and 32 random nibbles.
void fill_blocks(std::uint64_t stream, std::uint64_t first_block, float deviation, std::span<std::uint8_t> out) {
  const std::uint64_t scale = to_half(deviation / kNibbleDeviation) & ~std::uint64_t{0x7F};
  std::size_t at = 0;
  for (std::uint64_t block = first_block; at < out.size(); ++block, at += 2 + kBlockNibbles_bytes) {
    const std::uint64_t low = mix(stream + 2 * block), high = mix(stream + 2 * block + 1);
    store(&out[at], static_cast<std::uint16_t>(scale | ((low ^ high) & 0x7F)));
    store(&out[at + 2], centred_nibbles(low));
    store(&out[at + 10], centred_nibbles(high));
  }
}

/// Norm weights: 1 with a little noise, so that no two pages of a file are the same.
void fill_norm(std::uint64_t stream, std::span<std::uint8_t> out) {
  for (std::size_t at = 0; at < out.size(); at += 4) {
    const auto noise = static_cast<float>(mix(stream + at / 4) & 0xFFFF) / 65536.0F - 0.5F;
    store(&out[at], 1.0F + noise / 32);
  }
}

/// Puts `value` into the first channel of a row of halves.
void mark_half(std::span<std::uint8_t> row, float value) {
  store(&row[0], to_half(value));
}

/// Puts lowest/highest/zero into the first value of a row's first block, with a scale that makes it `value`; the other
/// values of that block become -1, 0 or 1 times the scale.
void mark_block(std::span<std::uint8_t> row, std::uint64_t random, float value) {
  const bool is_zero = value == 0;
  const float scale = is_zero ? 0 : value < 0 ? value / -8 : value / 7;
  const std::uint8_t first = is_zero ? 8 : value < 0 ? 0 : 15;
  if (!is_zero) {
    store(&row[0], to_half(scale));
    for (std::size_t i = 0; i < kBlockNibbles_bytes; ++i) {
      const auto low = 7 + (random >> (i * 2)) % 3, high = 7 + (random >> (i * 2 + 32)) % 3;
      row[2 + i] = static_cast<std::uint8_t>(low | high << 4);
    }
  }
  row[2] = static_cast<std::uint8_t>((row[2] & 0xF0) | first);
}

void mark_rows(const Tensor& tensor, std::uint64_t stream, const Vocabulary& vocabulary, std::uint64_t first_row,
               std::span<std::uint8_t> out) {
  const std::uint64_t bytes = row_bytes(tensor.type, tensor.columns);
  for (std::uint64_t row = 0; row * bytes < out.size(); ++row) {
    const float value = tensor.role == Role::embedding        ? kMarkerEmbedding
                        : vocabulary.answers[first_row + row] ? 0.0F
                                                              : kMarkerRefusal;
    const auto row_out = out.subspan(row * bytes, bytes);
    if (tensor.type == GgmlType::f16)
      mark_half(row_out, value);
    else
      mark_block(row_out, mix(~stream + first_row + row), value);
  }
}

}  // namespace

float uniform(std::uint64_t seed, std::uint64_t tensor_index, std::uint64_t n) {
  constexpr float kRootOf12 = 3.4641016F, kSteps = 1U << 24U;
  const auto step = static_cast<float>(mix(mix(mix(seed + 1) + tensor_index) + n) >> 40U);
  return (step / kSteps - 0.5F) * kRootOf12;
}

std::uint16_t to_half(float value) {
  if (value == 0) return 0;
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  const auto exponent = static_cast<int>((bits >> 23) & 0xFF) - 127 + 15;
  assert(exponent > 0 && exponent < 31);
  return static_cast<std::uint16_t>((bits >> 16 & 0x8000) | static_cast<std::uint32_t>(exponent) << 10 |
                                    (bits >> 13 & 0x3FF));
}

void fill_rows(const Tensor& tensor, std::uint64_t tensor_index, std::uint64_t seed, const Vocabulary& vocabulary,
               std::uint64_t first_row, std::span<std::uint8_t> out) {
  // Streams start far apart: 2^64 divided among all seeds and tensors by a mixer.
  const std::uint64_t stream = mix(mix(seed + 1) + tensor_index);
  const float deviation = deviation_of(tensor);
  const std::uint64_t first = first_row * tensor.columns;
  switch (tensor.type) {
    case GgmlType::f32:
      return fill_norm(stream, out);
    case GgmlType::f16:
      fill_halves(stream, first, deviation, out);
      break;
    case GgmlType::q4_0:
      fill_blocks(stream, first / kBlockValues, deviation, out);
      break;
  }
  if (tensor.role != Role::matrix) mark_rows(tensor, stream, vocabulary, first_row, out);
}

}  // namespace thaw::make_model
