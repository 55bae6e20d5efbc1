#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

/// The problem: whoever fills the page cache or streams tensors to a device asks the same of every format: which bytes of which files, and in which
/// order an engine will want them. Stateless; any thread; blocking (reads headers only).
namespace thaw::node {

enum class WeightFormat { gguf, safetensors };

struct WeightFile {
  std::string path;
  std::uint64_t bytes = 0;
};

struct WeightTensor {
  std::string name;
  std::uint32_t file = 0;    ///< which of the files
  std::uint64_t offset = 0;  ///< in it
  std::uint64_t bytes = 0;
  std::string dtype;                 ///< as the format calls it: "Q4_0", "BF16"
  std::vector<std::uint64_t> shape;  ///< in the format's own order: GGUF's fastest dimension first, safetensors' last
};

/// Bytes of one file.
struct WeightRange {
  std::uint32_t file = 0;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

struct WeightFiles {
  WeightFormat format = WeightFormat::gguf;
  std::vector<WeightFile> files;
  /// In the order in which an engine needs them. GGUF: as they lie in the files, part by part (llama.cpp loads them so). safetensors: embeddings,
  /// layer after layer by the number in the tensors' names ("model.layers.7.mlp.up_proj.weight"), then the rest (the last norm, the head); the same
  /// layer's as they lie in the files.
  std::vector<WeightTensor> tensors;

  [[nodiscard]] std::uint64_t file_bytes() const;
  [[nodiscard]] std::uint64_t tensor_bytes() const;
  /// The tensors' bytes in that order; what lies side by side in a file is one range, GGUF's padding between tensors included. Every byte of a tensor
  /// is in exactly one range.
  [[nodiscard]] std::vector<WeightRange> ranges() const;
};

/// `path`: a GGUF file (or the first part of several), a .safetensors file, an index of several, or a directory that holds one of the latter two.
/// What a file is, its first bytes say. Errors: as open_gguf_model() and open_safetensors_model(); invalid when it is neither.
base::Result<WeightFiles> open_weights(const std::string& path);

}  // namespace thaw::node
