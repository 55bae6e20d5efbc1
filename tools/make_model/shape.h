#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace thaw::make_model {

/// How weights are stored. Norms are F32 in both, as in real files.
enum class WeightType { f16, q4_0 };

/// ggml's number of a tensor type (ggml.h, enum ggml_type).
enum class GgmlType : std::uint32_t { f32 = 0, f16 = 1, q4_0 = 2 };

/// What a tensor is for, as far as its values depend on it.
enum class Role { embedding, output, matrix, norm };

struct Tensor {
  std::string name;
  std::uint64_t columns = 0;  ///< contiguous; ggml's ne[0]
  std::uint64_t rows = 1;
  GgmlType type = GgmlType::f32;
  Role role = Role::matrix;
  std::uint64_t offset = 0;  ///< from the start of the data section
  std::uint64_t bytes = 0;
};

/// The dimensions of a llama, named as in its GGUF metadata.
struct Shape {
  std::uint32_t vocabulary = 0;
  std::uint32_t embedding = 0;  ///< multiple of 32
  std::uint32_t layers = 0;
  std::uint32_t feed_forward = 0;  ///< multiple of 32
  std::uint32_t heads = 0;
  std::uint32_t kv_heads = 0;  ///< divides heads
  std::uint32_t head_size = 0;
  WeightType type = WeightType::f16;
};

/// Tensor data starts at multiples of this (GGUF's default alignment).
inline constexpr std::uint64_t kAlignment_bytes = 32;

/// A shape with the proportions of real llamas whose tensors take about `weights_bytes`: within 2% from 8 MB on, within
/// 10% at 1 MB. An error if no shape is that small.
base::Result<Shape> choose_shape(std::uint64_t weights_bytes, WeightType type, std::uint32_t vocabulary);

/// All tensors in file order, with their offsets.
std::vector<Tensor> list_tensors(const Shape& shape);

/// Bytes of a row of that many values; `columns` is a multiple of 32 for q4_0.
std::uint64_t row_bytes(GgmlType type, std::uint64_t columns);

/// Bytes of the data section.
std::uint64_t data_bytes(const std::vector<Tensor>& tensors);

}  // namespace thaw::make_model
