#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "base/result.h"

namespace thaw::make_model {

/// An adapter (LoRA) to be made: for models of the llama architecture, of their query and output projections.
struct LoraOptions {
  std::filesystem::path out;
  std::uint32_t layers = 0;  ///< of the model, 1 to 1024
  std::uint32_t width = 0;   ///< its embedding length, 1 to 65536; the projections are width x width
  std::uint32_t rank = 4;    ///< 1 to 512
  float scale = 1;           ///< 1: what it adds is about as large as a trained model's weights
  std::uint64_t seed = 0;
  std::string architecture = "llama";
};

/// Writes a GGUF file with random values, as llama.cpp's convert_lora_to_gguf.py lays it out: general.type "adapter", adapter.type "lora", adapter.lora.alpha,
/// and for each tensor T of the model T.lora_a (width x rank) and T.lora_b (rank x width), of which the model then has T + alpha / rank * B A. The same
/// options give the same bytes. Errors: invalid for options out of range, io.
base::Result<std::uint64_t> write_lora(const LoraOptions& options);

}  // namespace thaw::make_model
