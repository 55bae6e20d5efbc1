#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "make_model/shape.h"
#include "make_model/vocabulary.h"

namespace thaw::make_model {

/// The GGUF v3 header: magic, metadata of the llama architecture, vocabulary, tensor list, and padding up to the data
/// section. Format: ggml's docs/gguf.md. `context` is the training context in tokens, above which llama.cpp warns and
/// caps.
std::string make_header(const std::string& name, const Shape& shape, std::uint32_t context,
                        const Vocabulary& vocabulary, const std::vector<Tensor>& tensors);

}  // namespace thaw::make_model
