#include "make_model/header.h"

#include "make_model/encoder.h"

namespace thaw::make_model {
namespace {

// general.file_type (llama.h, enum llama_ftype).
constexpr std::uint32_t kMostlyF16 = 1, kMostlyQ4_0 = 2;

void encode_model(Encoder& encoder, const std::string& name, const Shape& shape, std::uint32_t context) {
  encoder.text("general.architecture", "llama");
  encoder.text("general.name", name);
  encoder.number("general.file_type", shape.type == WeightType::f16 ? kMostlyF16 : kMostlyQ4_0);
  encoder.number("general.quantization_version", 2);
  encoder.number("llama.vocab_size", shape.vocabulary);
  encoder.number("llama.context_length", context);
  encoder.number("llama.embedding_length", shape.embedding);
  encoder.number("llama.block_count", shape.layers);
  encoder.number("llama.feed_forward_length", shape.feed_forward);
  encoder.number("llama.attention.head_count", shape.heads);
  encoder.number("llama.attention.head_count_kv", shape.kv_heads);
  encoder.number("llama.rope.dimension_count", shape.head_size);
  encoder.real("llama.rope.freq_base", 10000.0F);
  encoder.real("llama.attention.layer_norm_rms_epsilon", 1e-5F);
}

void encode_vocabulary(Encoder& encoder, const Vocabulary& vocabulary) {
  encoder.text("tokenizer.ggml.model", "llama");
  encoder.array("tokenizer.ggml.tokens", ValueType::string, vocabulary.tokens.size());
  for (const std::string& token : vocabulary.tokens) encoder.string(token);
  encoder.array("tokenizer.ggml.scores", ValueType::float32, vocabulary.scores.size());
  for (const float score : vocabulary.scores) encoder.raw(score);
  encoder.array("tokenizer.ggml.token_type", ValueType::int32, vocabulary.types.size());
  for (const Vocabulary::Type type : vocabulary.types) encoder.raw(static_cast<std::int32_t>(type));
  encoder.number("tokenizer.ggml.unknown_token_id", vocabulary.unknown);
  encoder.number("tokenizer.ggml.bos_token_id", vocabulary.bos);
  encoder.number("tokenizer.ggml.eos_token_id", vocabulary.eos);
  encoder.flag("tokenizer.ggml.add_bos_token", true);
  encoder.flag("tokenizer.ggml.add_eos_token", false);
  encoder.flag("tokenizer.ggml.add_space_prefix", true);
  encoder.text("tokenizer.chat_template", kChatTemplate);
}

}  // namespace

std::string make_header(const std::string& name, const Shape& shape, std::uint32_t context,
                        const Vocabulary& vocabulary, const std::vector<Tensor>& tensors) {
  Encoder metadata;
  encode_model(metadata, name, shape, context);
  encode_vocabulary(metadata, vocabulary);

  Encoder list;
  for (const Tensor& tensor : tensors) {
    list.string(tensor.name);
    const bool is_vector = tensor.role == Role::norm;
    list.raw<std::uint32_t>(is_vector ? 1 : 2);
    list.raw(tensor.columns);
    if (!is_vector) list.raw(tensor.rows);
    list.raw(static_cast<std::uint32_t>(tensor.type));
    list.raw(tensor.offset);
  }

  return join_header(metadata, list, tensors.size());
}

}  // namespace thaw::make_model
