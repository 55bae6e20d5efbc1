#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace thaw::make_model {

/// A complete SentencePiece vocabulary in llama.cpp's sense: every text has tokens (there is one per byte), common
/// words are one token each, and a model can be kept to whole words, so that even random weights answer with something
/// readable.
struct Vocabulary {
  /// llama.cpp's token types (llama.h, enum llama_token_type).
  enum class Type : std::int32_t { normal = 1, unknown = 2, control = 3, byte = 6 };

  std::vector<std::string> tokens;
  std::vector<float> scores;  ///< higher is merged first
  std::vector<Type> types;
  std::vector<bool> answers;  ///< tokens that a made model may answer with: whole words and punctuation

  std::uint32_t unknown = 0, bos = 1, eos = 2;  ///< indices into tokens

  [[nodiscard]] std::uint32_t size() const { return static_cast<std::uint32_t>(tokens.size()); }
};

/// The one vocabulary of all made models. About 800 tokens.
Vocabulary make_vocabulary();

/// The Jinja template of /v1/chat/completions: "role: content" lines, then "assistant:".
extern const char* const kChatTemplate;

}  // namespace thaw::make_model
