#include "make_model/shape.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace thaw::make_model {
namespace {

constexpr std::uint64_t kQuantBlock = 32;        // values in a q4_0 block
constexpr std::uint64_t kQuantBlock_bytes = 18;  // a half for the scale, 32 four-bit values (ggml-common.h, block_q4_0)
constexpr std::uint32_t kMinEmbedding = 64;
constexpr std::uint32_t kMaxLayers = 96;
// Real llamas have about as many layers as the embedding has multiples of this (4096 and 32, 8192 and 80).
constexpr std::uint32_t kEmbeddingPerLayer = 128;

GgmlType stored(WeightType type) {
  return type == WeightType::f16 ? GgmlType::f16 : GgmlType::q4_0;
}

/// Rounded so that heads divide well: the larger, the coarser, as in real models.
std::uint32_t round_embedding(double embedding) {
  const std::uint32_t step = embedding < 512 ? 64 : embedding < 1024 ? 128 : 256;
  return std::max(kMinEmbedding, static_cast<std::uint32_t>(embedding / step) * step);
}

Shape with_embedding(std::uint32_t embedding, WeightType type, std::uint32_t vocabulary) {
  Shape shape{.vocabulary = vocabulary, .embedding = embedding, .type = type};
  shape.layers = std::clamp(embedding / kEmbeddingPerLayer, 2U, kMaxLayers);
  shape.head_size = embedding < 256 ? 32 : 64;
  shape.heads = embedding / shape.head_size;
  shape.kv_heads = std::max(1U, shape.heads / 4);
  while (shape.heads % shape.kv_heads != 0) --shape.kv_heads;
  return shape;
}

std::uint64_t bytes_with(Shape shape, std::uint32_t feed_forward) {
  shape.feed_forward = feed_forward;
  return data_bytes(list_tensors(shape));
}

}  // namespace

base::Result<Shape> choose_shape(std::uint64_t weights_bytes, WeightType type, std::uint32_t vocabulary) {
  const double value_bytes = type == WeightType::f16 ? 2.0 : static_cast<double>(kQuantBlock_bytes) / kQuantBlock;
  // A llama has about 12 * layers * embedding^2 weights (attention 4, feed-forward 3 * 8/3).
  const double weights = static_cast<double>(weights_bytes) / value_bytes;
  const auto start = round_embedding(std::cbrt(weights * kEmbeddingPerLayer / 12));
  for (std::uint32_t embedding = start;; embedding = round_embedding(embedding - 1)) {
    Shape shape = with_embedding(embedding, type, vocabulary);
    // What the feed-forward does not use is fixed by now; it takes the rest, in steps of a quantisation block.
    const std::uint64_t fixed = bytes_with(shape, 0);
    const std::uint64_t step = bytes_with(shape, kQuantBlock) - fixed;
    const std::uint64_t rest = weights_bytes > fixed ? weights_bytes - fixed : 0;
    const auto steps = static_cast<std::uint32_t>((rest + step / 2) / step);
    shape.feed_forward = steps * static_cast<std::uint32_t>(kQuantBlock);
    if (shape.feed_forward >= shape.embedding) return shape;
    if (embedding == kMinEmbedding)
      return base::Error{base::ErrorKind::invalid,
                         fmt::format("cannot shape a model of {} bytes of weights: too small; "
                                     "ask for at least 1MB",
                                     weights_bytes)};
  }
}

std::uint64_t row_bytes(GgmlType type, std::uint64_t columns) {
  switch (type) {
    case GgmlType::f32:
      return columns * 4;
    case GgmlType::f16:
      return columns * 2;
    case GgmlType::q4_0:
      return columns / kQuantBlock * kQuantBlock_bytes;
  }
  return 0;
}

std::vector<Tensor> list_tensors(const Shape& shape) {
  std::vector<Tensor> tensors;
  std::uint64_t offset = 0;
  const auto add = [&](std::string name, std::uint64_t columns, std::uint64_t rows, Role role) {
    const GgmlType type = role == Role::norm ? GgmlType::f32 : stored(shape.type);
    const std::uint64_t bytes = row_bytes(type, columns) * rows;
    tensors.push_back({std::move(name), columns, rows, type, role, offset, bytes});
    offset += (bytes + kAlignment_bytes - 1) / kAlignment_bytes * kAlignment_bytes;
  };
  const std::uint64_t embedding = shape.embedding;
  const std::uint64_t kv = std::uint64_t{shape.kv_heads} * shape.head_size;
  add("token_embd.weight", embedding, shape.vocabulary, Role::embedding);
  for (std::uint32_t layer = 0; layer < shape.layers; ++layer) {
    const auto named = [layer](const char* part) { return fmt::format("blk.{}.{}.weight", layer, part); };
    add(named("attn_norm"), embedding, 1, Role::norm);
    add(named("attn_q"), embedding, embedding, Role::matrix);
    add(named("attn_k"), embedding, kv, Role::matrix);
    add(named("attn_v"), embedding, kv, Role::matrix);
    add(named("attn_output"), embedding, embedding, Role::matrix);
    add(named("ffn_norm"), embedding, 1, Role::norm);
    add(named("ffn_gate"), embedding, shape.feed_forward, Role::matrix);
    add(named("ffn_up"), embedding, shape.feed_forward, Role::matrix);
    add(named("ffn_down"), shape.feed_forward, embedding, Role::matrix);
  }
  add("output_norm.weight", embedding, 1, Role::norm);
  add("output.weight", embedding, shape.vocabulary, Role::output);
  return tensors;
}

std::uint64_t data_bytes(const std::vector<Tensor>& tensors) {
  return tensors.empty() ? 0 : tensors.back().offset + tensors.back().bytes;
}

}  // namespace thaw::make_model
