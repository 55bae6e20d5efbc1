#pragma once

#include <cstdint>

#include "node/engine/llama_args.h"
#include "node/weights/gguf.h"
#include "spec/model_spec.h"

namespace thaw::node {

/// What one replica of llama-server takes on its device, by cause. On a CPU device the sum is what it cannot give up: anonymous memory and the
/// mapped weights it computes with (quantised weights are repacked into anonymous memory; the mapping they came from can leave).
struct LlamaMemory {
  std::uint64_t weights_bytes = 0;      ///< tensors; and adapters, projectors, draft models named in the arguments
  std::uint64_t kv_bytes = 0;           ///< keys and values (and recurrent states) of all slots
  std::uint64_t compute_bytes = 0;      ///< the graph's intermediate results, logits, the threads' work buffers
  std::uint64_t engine_bytes = 0;       ///< the process itself: code, vocabulary, request buffers, a CUDA context
  std::uint64_t copied_bytes = 0;       ///< of the weights: that are copied, and whose pages in the file are needed until that is done
  std::uint64_t kv_bytes_per_token = 0; ///< all layers, in full length

  std::uint64_t layers = 0;

  [[nodiscard]] std::uint64_t total() const;
  /// Of a replica on so many devices, on all together: each has the same share, which the fullest must fit in. Whole layers are dealt out, so one may have a layer
  /// more than its part; and each has compute buffers and a context of its own.
  [[nodiscard]] std::uint64_t total_on(std::uint32_t devices) const;
};

/// Never fails: what the header does not say counts as 0; numbers too big to be true saturate.
LlamaMemory estimate_llama_memory(const GgufModel& model, const LlamaSettings& settings, spec::DeviceKind device);

}  // namespace thaw::node
