#pragma once

#include <cstdint>
#include <span>

#include "make_model/shape.h"
#include "make_model/vocabulary.h"

namespace thaw::make_model {

/// Fills part of a tensor with its random values: `first_row` and the size of `out` choose whole rows. The same seed,
/// tensor and rows always give the same bytes, whichever rows are asked for together. Values are scaled to keep
/// activations near 1 at any depth, and chosen so that greedy and sampled answers are tokens marked in
/// `vocabulary.answers` (see weights.cpp). `tensor_index` is its place in list_tensors().
void fill_rows(const Tensor& tensor, std::uint64_t tensor_index, std::uint64_t seed, const Vocabulary& vocabulary,
               std::uint64_t first_row, std::span<std::uint8_t> out);

/// The n-th value of a stream that seed and tensor choose: uniform, of mean 0 and deviation 1.
float uniform(std::uint64_t seed, std::uint64_t tensor_index, std::uint64_t n);

/// IEEE half precision of a value in the normal range; bits below its precision are cut off.
std::uint16_t to_half(float value);

}  // namespace thaw::make_model
